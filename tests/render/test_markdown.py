"""The comment: what it says first, what it leaves out, and that no name can break out of it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import (
    Accepted,
    BudgetChange,
    Comparison,
    Delta,
    Direction,
    Place,
    Standing,
)
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.measurement import Uncounted, Value
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.core.report import Git, Report
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.render.escaping import cell
from pytest_flopbudget.render.markdown import COMMENT_BYTES, render_comment, render_markdown
from pytest_flopbudget.render.words import clean

from ..builders import budgeted, limit, measured, reported


class _Page(HTMLParser):
    """The rendered page: how often each tag opens, and the text of each cell."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.cells: list[str] = []
        self.codes: list[str] = []
        self._open: list[str] = []
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.opened.append((tag, dict(attrs)))
        if tag != "br":
            self._open.append(tag)
        if tag == "td":
            self.cells.append("")
        if tag == "code":
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self._open:
            self.cells[-1] += data
        if "code" in self._open:
            self.codes[-1] += data


def text_of(markdown: str) -> str:
    """The words of the page, without markup."""
    page = cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE)
    return re.sub(r"<[^>]*>", "", page)


def plain(markdown: str) -> str:
    """The words as a reader sees them."""
    return html.unescape(text_of(markdown))


class TestOrder:
    def test_the_hidden_marker_is_the_first_line(self, comparison: Comparison) -> None:
        body = render_comment(comparison, marker_id="models")
        assert body.startswith("<!-- pytest-flopbudget:v1 id=models -->\n### ")
        assert "<!-- pytest-flopbudget" not in render_markdown(comparison)

    def test_the_headline_counts_the_worst_first(self, comparison: Comparison) -> None:
        headline = render_markdown(comparison).splitlines()[0]
        # test_soft is raised to a warning, and test_gone is removed: two loosened.
        assert headline == (
            "### \N{CROSS MARK} Compute budget: fail · 1 over budget · 2 budgets loosened"
            " · 1 warned of · 1 improved · 1 not measured · 2 within budget"
            " (<code>aaaaaaaaa vs bbbbbbbbb</code>)"
        )

    def test_loosened_budgets_stand_before_every_table_and_are_never_folded(
        self, comparison: Comparison
    ) -> None:
        body = render_markdown(comparison)
        caution = body.index("> [!CAUTION]")
        assert caution < body.index("| Test |")
        assert caution < body.index("<details>")
        assert "macs severity: error -> warn (measured 31 MAC)" in plain(body)
        assert "the test is removed; its budget was macs at most 5 MAC" in plain(body)

    def test_the_parts_stand_in_the_order_of_their_weight(self, comparison: Comparison) -> None:
        body = render_markdown(comparison)
        parts = [
            "[!CAUTION]",
            "[!NOTE]",
            "#### Over budget",
            "#### Over, only warned of",
            "<summary>Improved (1)",
            "<summary>Changed, with no budget (1)",
            "<summary>Budgets tightened (1)",
            "<summary>New (1)",
            "<summary>Not measured (1)",
            "<summary>Renamed (1)",
            "<summary>Not decided (1)",
            "<summary>Uncounted operators (1)",
            "<summary>Not comparable: two separate runs (1)",
            "<summary>Another machine or other versions (2)",
            "<summary>Unchanged (2)",
            "<sub>",
        ]
        at = [body.index(part) for part in parts]
        assert at == sorted(at)

    def test_a_test_that_is_gone_is_told_of_once(self, comparison: Comparison) -> None:
        # test_gone had a budget: it stands among the loosened ones.
        body = render_markdown(comparison)
        assert body.count("test_gone") == 2  # where it is told of, and in the line to copy
        assert "Removed" not in body
        free = replace(comparison.removed[0].place, test="t.py::test_free_and_gone")
        entry = replace(comparison.removed[0], place=free, budget="")
        body = render_markdown(replace(comparison, removed=(*comparison.removed, entry)))
        assert "<summary>Removed (1)" in body
        assert body.count("test_free_and_gone") == 1

    def test_on_a_leg_where_it_is_not_loosened_it_still_is(self, comparison: Comparison) -> None:
        (removed,) = comparison.removed
        loosened = tuple(replace(one, legs=("cpu",)) for one in comparison.loosened)
        for legs, count in ((("cpu",), 0), (("gpu",), 1), ((), 1)):
            entry = replace(removed, place=replace(removed.place, legs=legs))
            body = render_markdown(replace(comparison, removed=(entry,), loosened=loosened))
            assert body.count("<summary>Removed (1)") == count

    def test_a_row_over_budget_has_both_sides_the_budget_a_bar_and_a_cause(
        self, comparison: Comparison
    ) -> None:
        page = _Page(render_markdown(comparison))
        # 3000 of 1500 MAC is twice the budget, and twice the base of 1000 more.
        assert page.cells[:8] == [
            "test_mlp",
            "macs",
            "1 kMAC",
            "3 kMAC",
            "+200 %",
            "<= 1.5 kMAC",
            "▓▓▓▓▓▓▓▓▓▓ 200 %",
            "fc1 (aten.mm): +2 kMAC",
        ]

    def test_a_latency_of_another_machine_does_not_stand_beside_this_ones(
        self, comparison: Comparison
    ) -> None:
        body = render_markdown(comparison)
        row = next(line for line in body.splitlines() if "<code>latency</code>" in line)
        assert row == "| <code>test_free</code> | <code>latency</code> | - | 20 ms |"

    def test_without_a_base_the_page_says_so(self, head: Report) -> None:
        assert "no baseline yet&#58; absolute budgets alone" in render_markdown(compare(None, head))

    def test_a_page_with_nothing_to_tell_is_two_lines(self) -> None:
        report = reported(budgeted("t.py::t", measured(macs={"": 1}), limits=(limit("macs", 2),)))
        quiet = replace(compare(report, report), unchanged=(), versions=())
        assert render_markdown(quiet) == (
            "### \N{WHITE HEAVY CHECK MARK} Compute budget: pass · 1 within budget\n"
        )

    def test_a_head_that_measured_nothing_is_no_pass(self) -> None:
        assert render_markdown(compare(None, reported())).startswith("### \N{WARNING SIGN}")

    def test_same_names_in_two_files_keep_their_files(self) -> None:
        head = reported(
            *(
                budgeted(f"{file}::test_x", measured(macs={"": 3}), limits=(limit("macs", 2),))
                for file in ("a.py", "b.py")
            )
        )
        page = _Page(render_markdown(compare(None, head)))
        assert [page.cells[0], page.cells[8]] == ["a.py::test_x", "b.py::test_x"]


@pytest.fixture(scope="module")
def crowd() -> Comparison:
    """Far more than a comment holds: 900 tests over budget, and 900 that are not."""
    tests = [
        budgeted(
            f"tests/test_many.py::test_{'long' * 20}_{n}",
            measured(macs={"layer.very.deep": 900 + n}),
            limits=(limit("macs", 1349),),
        )
        for n in range(1800)
    ]
    return compare(reported(*tests), reported(*tests))


class TestLimits:
    def test_a_comment_holds_its_limit_and_counts_what_it_leaves_out(
        self, crowd: Comparison
    ) -> None:
        # 450 are within: 900 to 1349; 1350 are over.
        body = render_comment(crowd)
        assert len(body.encode()) <= COMMENT_BYTES
        shown = sum("| <code>test_long" in line for line in body.splitlines())
        ((dropped,), (whole,)) = (
            [int(count) for count in re.findall(pattern, body)]
            for pattern in (r"and (\d+) more, left out", r"(\d+) rows left out")
        )
        assert shown + dropped == 1350
        # Besides, 20 lines to accept, 450 that are unchanged, and the line of versions.
        assert whole == dropped + 20 + 450 + 1
        # The rows that are kept are the worst: 2699 is the farthest over 1349.
        assert "2.699 kMAC" in body
        assert shown > 100

    def test_what_is_left_out_is_not_a_row_of_the_table(self, crowd: Comparison) -> None:
        body = render_comment(crowd)
        shown = sum("| <code>test_long" in line for line in body.splitlines())
        page = _Page(body)
        assert page.tags["tr"] == shown + 1
        # A part of which nothing is shown does not stand there empty.
        assert "details" not in page.tags

    def test_the_limit_is_kept_at_every_size(self, comparison: Comparison) -> None:
        whole = len(render_markdown(comparison).encode())
        smallest = len(render_markdown(comparison, max_bytes=0).encode())
        assert smallest < whole
        for limit_bytes in range(smallest, whole + 1, 7):
            body = render_markdown(comparison, max_bytes=limit_bytes)
            assert len(body.encode()) <= limit_bytes
            _Page(body)
        assert render_markdown(comparison, max_bytes=whole + 1) == render_markdown(comparison)

    def test_the_least_important_rows_go_first(self, comparison: Comparison) -> None:
        whole = len(render_markdown(comparison).encode())
        body = render_markdown(comparison, max_bytes=whole - 10)
        before, after = body.rsplit("\n\n", 1)
        assert render_markdown(comparison).startswith(before)
        assert re.fullmatch(r"<sub>\d rows? left out for space</sub>\n", after)


HOSTILE = [
    "plain",
    "a|b",
    "a||b\\|c",
    "`code`",
    "``a` b``",
    "<img src=x onerror=alert(1)>",
    "</code></td></tr></table>",
    "<!-- open",
    "--> closed",
    "[link](https://example.com)",
    "![image](x.png)",
    "https://example.com/x",
    "www.example.com",
    "someone@example.com",
    "@everyone",
    "*a* **b** _c_ __d__ ~~e~~",
    "_a",
    "a_b__c_",
    "# heading",
    "- item\n- item",
    "line\r\nline\u2028line\x0bline",
    "\u202egnp.exe",
    "zero\u200bwidth\ufeff",
    "&lt;b&gt; &amp; &#64;",
    "$x^2$ :smile: #123",
    "\\",
    "a\\",
    "\x00\x1b[31mred",
    "a\udcff",
    "a" * 500,
    "|" * 500,
    "e\u0301" * 100,
]


def structure(hostile: str) -> _Page:
    """The page of a comparison in which every text that others wrote is the hostile one."""
    row = Uncounted(operator=hostile, calls=1, shapes=(hostile,))
    before, after = (
        reported(
            budgeted(
                f"t.py::{hostile}",
                measured(
                    hostile, macs={hostile: spent}, uncounted=(row,), **{"z" + hostile: spent}
                ),
                limits=(limit("macs", spent, source=hostile),),
                region=hostile,
            ),
            versions={hostile: hostile + str(spent)},
            machine={hostile: hostile + str(spent)},
            git=Git(commit=hostile, branch=hostile, is_dirty=False),
            notes=(hostile,),
        )
        for spent in (1, 2)
    )
    return _Page(render_comment(compare(before, after)))


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=60) | st.text("|`*_<>[]()!&@:/.\\#~-$\n\r\t aw0", max_size=30))
@example("|")
def test_no_name_changes_the_page(hostile: str) -> None:
    # Of what is not seen at all nothing is left, and a region or commit without a name is none.
    assume(clean(hostile))
    assert structure(hostile).tags == structure("plain").tags


@pytest.mark.parametrize("hostile", HOSTILE)
def test_known_tricks_do_not_change_the_page(hostile: str) -> None:
    page = structure(hostile)
    assert page.tags == structure("plain").tags
    assert not {"a", "img", "em", "del", "script"} & page.tags.keys()


def test_the_judge_sees_what_an_unescaped_name_does() -> None:
    tags = [_Page(f"| a |\n|---|\n| {name} |").tags for name in ("plain", "@x y@example.com")]
    assert tags[0] != tags[1]
    assert _Page("| a | b |\n|---|---|\n| x|y | z |").cells == ["x", "y"]


@given(st.text(max_size=100))
def test_a_cell_shows_the_visible_characters_that_were_written(text: str) -> None:
    (shown,) = _Page(cell(text)).codes
    import unicodedata

    words = " ".join(unicodedata.normalize("NFC", text).split())
    visible = "".join(
        char for char in words if char == " " or unicodedata.category(char)[0] not in "CZ"
    )
    assert shown == visible


@pytest.mark.parametrize(("length", "is_cut"), [(119, False), (120, False), (121, True)])
def test_a_cell_is_cut_above_120_characters(length: int, is_cut: bool) -> None:
    (shown,) = _Page(cell("x" * length)).codes
    assert len(shown) == min(length, 120)
    assert ("\N{HORIZONTAL ELLIPSIS}" in shown) is is_cut


@pytest.mark.parametrize("address", ["@team", "someone@example.com", "a@b"])
def test_nobody_is_called(address: str) -> None:
    # Neither the character nor its entity stands before a letter, even after decoding.
    assert "@" not in cell(address).replace("&#64;<!-- -->", "")


def over(test: str = "t.py::test_x", **other: Any) -> Delta:
    """130 of 120 MAC, from 100."""
    place = Place(test=test, file="t.py", line=3, metric="macs")
    verdict = Verdict(
        region="", metric="macs", outcome=Outcome.OVER, reason="why", value=130, bound=120, used=1.1
    )
    known: dict[str, Any] = {
        "place": place,
        "base": Value(value=100),
        "head": Value(value=130),
        "limit": limit("macs", 120),
        "verdict": verdict,
    }
    return Delta(**{**known, **other})


def on(delta: Delta, *legs: str) -> Delta:
    return replace(delta, place=replace(delta.place, legs=legs))


def whole(**other: Any) -> Comparison:
    return Comparison(**{"standing": Standing.OVER, "has_base": True, "measured": ("t",), **other})


ACCEPTANCE = Acceptance(
    tests="t.py::*",
    metric="macs",
    cap=Fraction(140),
    reason="a wider layer",
    line="Flop-Budget-Accept: ...",
    set_by="jo",
)


class TestHiddenLines:
    def test_a_link_is_escaped_and_stands_where_rows_are_left_out(self) -> None:
        long = whole(notes=("x" * 400,) * 300)
        link = "https://ghe.example:8443/a/b/actions/runs/1?x=1&lt;=2&y='2'"
        ((_, attrs),) = [one for one in _Page(render_comment(long, link=link)).opened if "a" in one]
        assert attrs == {"href": link}
        assert "<a " not in render_comment(long)
        # It would change with every run a comment that says the same.
        assert render_comment(whole(), link=link) == render_comment(whole())

    @pytest.mark.parametrize(
        "link",
        [
            "javascript:alert(1)",
            "ftp://x/y",
            "//x/y",
            'https://x/"><b>',
            "https://x/ y",
            "https://x/\n# y",
            "https://x\\y",
            "https://a@x/",
            "https://x/" + "y" * 500,
        ],
    )
    def test_what_is_no_address_of_the_web_is_refused(self, link: str) -> None:
        with pytest.raises(FlopBudgetError, match="write an address"):
            render_comment(whole(), link=link)


class TestLead:
    def test_an_older_base_is_told(self) -> None:
        git = Git(commit="c" * 40, branch="main", is_dirty=False)
        body = plain(render_markdown(whole(base_git=git, base_age=3)))
        assert "Compared with ccccccccc, 3 commits older than the base\n" in body
        assert "1 commit older" in plain(render_markdown(whole(base_age=1)))
        assert "older" not in plain(render_markdown(whole(base_git=git)))

    def test_a_fork_measures_itself(self) -> None:
        line = "\nMeasured by code of this pull request\n"
        assert line in render_comment(whole(), is_fork=True)
        assert line not in render_comment(whole())


class TestWhatToDo:
    CHANGE = BudgetChange(
        direction=Direction.LOOSENED,
        what="maximum",
        before="1 MAC",
        after="2 MAC",
        metric="macs",
        tests=("t.py::test_x",),
        bound=Fraction(2),
    )

    def test_a_loosened_budget_has_the_label_and_the_line(self) -> None:
        body = render_comment(whole(loosened=(self.CHANGE,)), label="budget-ok")
        caution, rest = body.split("\n\n#", 1)[0].rsplit("\n\n", 1)[-1], body
        assert caution.splitlines()[0] == "> [!CAUTION]"
        assert "put the label budget-ok on the pull request" in plain(caution)
        assert ">   Flop-Budget-Accept: t.py::test_x macs <= 2 MAC - reason\n" in caution + rest
        assert "label <code>flopbudget-accept</code>" in render_comment(
            whole(loosened=(self.CHANGE,))
        )

    def test_without_a_label_the_text_of_accept_is_named(self) -> None:
        page = plain(render_markdown(whole(loosened=(self.CHANGE,), over=(over(),))))
        assert "label" not in page
        assert page.count("into the text that is given with --accept, with your reason") == 2

    def test_what_is_over_has_its_line_folded_below_the_table(self) -> None:
        body = render_markdown(whole(over=(over(),)))
        folded = body[body.index("<details><summary>To accept what is over budget (1)") :]
        assert (
            "\n```text\nFlop-Budget-Accept: t.py::test_x macs <= 130 MAC - reason\n```\n"
            in (folded[: folded.index("</details>")])
        )

    def test_lines_that_are_left_out_leave_the_fence_closed(self) -> None:
        many = whole(over=tuple(over(f"t.py::test_{n}") for n in range(9)))
        full = render_markdown(many)
        last = full.index("Flop-Budget-Accept: t.py::test_8 ")
        body = render_markdown(many, max_bytes=len(full[:last].encode()) + 60)
        tags = _Page(body).tags
        assert (tags["pre"], tags["details"]) == (1, 1)
        assert "more, left out for space" not in html.unescape(
            "".join(re.findall(r"```text.*?```", body, re.DOTALL))
        )

    def test_a_missing_leg_makes_the_page_incomplete(self) -> None:
        merged = merge({"a": whole(standing=Standing.WITHIN)}, missing=("gpu", "mac"))
        body = render_markdown(merged)
        assert "1 leg missing" not in body
        assert "2 legs missing" in body.splitlines()[0]
        warning = body[body.index("> [!WARNING]") :]
        assert "**Incomplete: 2 legs of the run left no report.**" in warning
        assert "> - <code>gpu</code>\n> - <code>mac</code>\n" in warning
        # Told once, and not in the notes again.
        assert "[!NOTE]" not in body


class TestAcceptedAndPreExisting:
    def test_what_was_accepted_has_its_reason_its_cap_and_who_set_it(self) -> None:
        c = whole(accepted=(Accepted(acceptance=ACCEPTANCE, delta=over()),))
        page = _Page(render_markdown(c))
        assert page.cells == [
            "test_x",
            "macs 100 MAC to 130 MAC (+30 %)",
            "<= 140 MAC",
            "a wider layer",
            "jo",
        ]

    def test_an_accepted_removal_has_no_cap(self) -> None:
        gone = replace(ACCEPTANCE, metric="", cap=None, set_by="")
        change = BudgetChange(
            direction=Direction.LOOSENED,
            what="test",
            before="macs at most 5 MAC",
            after="removed",
            tests=("t.py::test_x",),
        )
        page = _Page(render_markdown(whole(accepted=(Accepted(acceptance=gone, change=change),))))
        assert page.cells == [
            "test_x",
            "the test is removed; its budget was macs at most 5 MAC",
            "gone",
            "a wider layer",
            "-",
        ]

    def test_what_the_base_breaks_too_stands_apart_and_folded(self) -> None:
        body = render_markdown(whole(pre_existing=(over(),)))
        assert "1 over on the base too" in body.splitlines()[0]
        assert "#### Over budget" not in body
        assert "<summary>Over budget on the base too (1)" in body

    @pytest.mark.parametrize("part", ["over", "pre_existing", "accepted"])
    @pytest.mark.parametrize(
        ("told", "moved", "is_twice"),
        [
            ((), (), False),
            ((), ("a",), False),
            (("a",), (), False),
            (("a", "b"), ("b", "c"), False),
            (("a",), ("b",), True),
        ],
    )
    def test_a_number_that_another_table_has_is_not_listed_as_changed(
        self, part: str, told: tuple[str, ...], moved: tuple[str, ...], is_twice: bool
    ) -> None:
        known: Any = on(over(), *told)
        if part == "accepted":
            known = Accepted(acceptance=ACCEPTANCE, delta=known)
        change = on(over(verdict=None), *moved)
        body = render_markdown(whole(**{part: (known,)}, changed=(change,)))
        assert ("#### Changed" in body) is is_twice


class TestLegs:
    def test_a_row_names_its_legs_only_where_it_is_not_about_all(self) -> None:
        page = _Page(render_markdown(whole(over=(on(over(), "cpu", "gpu"), over("t.py::test_y")))))
        assert [page.cells[0], page.cells[8]] == ["test_xon cpu, gpu", "test_y"]

    def test_more_legs_than_six_are_counted(self) -> None:
        page = _Page(render_markdown(whole(over=(on(over(), *"abcdefgh"),))))
        assert page.cells[0] == "test_xon a, b, c, d, e, f, 2 more"


class TestTrend:
    def cells(self, *history: float, **other: Any) -> list[str]:
        return _Page(render_markdown(whole(over=(over(history=history, **other),)))).cells

    def test_there_is_no_column_without_history(self) -> None:
        assert len(self.cells()) == 8
        mixed = whole(over=(over(history=(100,)), over("t.py::test_y")))
        page = _Page(render_markdown(mixed))
        assert [page.cells[7], page.cells[16]] == ["▁█ 100 MAC to 130 MAC", "-"]

    def test_the_lowest_and_the_highest_are_the_ends_of_the_scale(self) -> None:
        # From 60 to 130 in seven steps of ten: a bar for each.
        assert self.cells(60, 70, 80, 90, 100, 110, 120)[7] == "▁▂▃▄▅▆▇█ 60 MAC to 130 MAC"

    def test_what_never_moved_is_flat(self) -> None:
        assert self.cells(130, 130, 130)[7] == "▄▄▄▄ 130 MAC"

    def test_the_last_twenty_points_are_shown(self) -> None:
        # 5 and 6 are too old: of 22 points, the head's included, 20 stay.
        bars, _, first = self.cells(5, 6, *range(100, 119))[7].partition(" ")
        assert (len(bars), first) == (20, "100 MAC to 130 MAC")
        assert len(self.cells(*range(100, 119))[7].split()[0]) == 20

    def test_huge_numbers_are_drawn(self) -> None:
        # Of seven steps, 1e299 is 3.85 above the lowest, and next to nothing is 3.5.
        assert self.cells(1e300, -1e300, 10**299)[7].startswith("█▁▅▅ ")


class TestLeftOut:
    def test_what_is_left_out_is_counted_with_the_link(self, crowd: Comparison) -> None:
        body = render_comment(crowd, link="https://example.com/run")
        assert re.search(
            r'<sub>\d+ rows left out for space: <a href="https://example.com/run">the full '
            r"summary</a> has all</sub>\n$",
            body,
        )
        assert len(body.encode()) <= COMMENT_BYTES

    def test_warnings_stand_without_their_rows(self) -> None:
        loosened = tuple(replace(TestWhatToDo.CHANGE, tests=(f"t.py::{n}",)) for n in range(40))
        body = render_markdown(
            whole(loosened=loosened, missing_legs=("a",) * 40, notes=("note",)), max_bytes=1500
        )
        assert len(body.encode()) <= 1500
        assert "**This change loosens or removes 40 budgets.**" in body
        assert "**Incomplete: 40 legs of the run left no report.**" in body
        assert "[!NOTE]" not in body
