"""The comment: what it says first, what it leaves out, and that no name can break out of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.measurement import Uncounted
from pytest_flopbudget.core.report import Git, Report
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
        html = cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE)
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
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
    html = cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE)
    return re.sub(r"<[^>]*>", "", html)


class TestOrder:
    def test_the_hidden_marker_is_the_first_line(self, comparison: Comparison) -> None:
        body = render_comment(comparison, marker_id="models")
        assert body.startswith("<!-- pytest-flopbudget:v1 id=models -->\n### ")
        assert "<!-- pytest-flopbudget" not in render_markdown(comparison)

    def test_the_headline_counts_the_worst_first(self, comparison: Comparison) -> None:
        headline = render_markdown(comparison).splitlines()[0]
        # test_soft is raised to a warning, and test_gone is removed: two loosened.
        assert headline == (
            "### \N{CROSS MARK} Compute budget: 1 over budget · 2 budgets loosened · 1 warned of"
            " · 1 improved · 1 not measured · 2 within budget"
            " (<code>aaaaaaaaa vs bbbbbbbbb</code>)"
        )

    def test_loosened_budgets_stand_before_every_table_and_are_never_folded(
        self, comparison: Comparison
    ) -> None:
        body = render_markdown(comparison)
        caution = body.index("> [!CAUTION]")
        assert caution < body.index("| Test |")
        assert caution < body.index("<details>")
        assert "macs severity: error -> warn (measured 31 MAC)" in text_of_html(body)
        assert "the test is removed; its budget was macs at most 5 MAC" in text_of_html(body)

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
            "<summary>Removed (1)",
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

    def test_a_latency_of_two_runs_has_no_difference(self, comparison: Comparison) -> None:
        body = render_markdown(comparison)
        row = next(line for line in body.splitlines() if "<code>latency</code>" in line)
        assert row == "| <code>test_free</code> | <code>latency</code> | 10 ms | 20 ms |"

    def test_without_a_base_the_page_says_so(self, head: Report) -> None:
        assert "no baseline yet&#58; absolute budgets alone" in render_markdown(compare(None, head))

    def test_a_page_with_nothing_to_tell_is_two_lines(self) -> None:
        report = reported(budgeted("t.py::t", measured(macs={"": 1}), limits=(limit("macs", 2),)))
        quiet = replace(compare(report, report), unchanged=(), versions=())
        assert render_markdown(quiet) == (
            "### \N{WHITE HEAVY CHECK MARK} Compute budget: 1 within budget\n"
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


def text_of_html(markdown: str) -> str:
    import html

    return html.unescape(text_of(markdown))


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
