"""No text of others changes what a page is, whatever it says and however little fits.

The judge is GitHub's own parser: the page of hostile texts must have the tags, the
attributes and, outside of code, the words of the page of harmless ones.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any
from unittest.mock import patch

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.attribution import Share
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparison import (
    Accepted,
    BudgetChange,
    Comparison,
    Delta,
    Direction,
    Entry,
    FactChange,
    Place,
    Rename,
    Standing,
    Timings,
    UncountedRow,
)
from pytest_flopbudget.core.measurement import Uncounted, Value
from pytest_flopbudget.core.report import Git, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import SideBySide, Timed, TimedOutcome
from pytest_flopbudget.core.timings import timed_delta
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.render import markdown
from pytest_flopbudget.render.markdown import render_comment, render_markdown
from pytest_flopbudget.render.words import clean

from ..builders import limit, ratio

LINK = "https://example.com/acme/net/actions/runs/1?check=1&pr=2"
HARMLESS = "plain"
HOSTILE = [
    "a|b",
    "a||b\\|c",
    "`code`",
    "``a` b``",
    "```",
    "```text\n# x\n```",
    "~~~",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</code></td></tr></table>",
    "</details>",
    "<details open><summary>x</summary>",
    "<a href=https://example.com>x</a>",
    "<https://example.com>",
    "<!-- open",
    "--> closed",
    "<!-- pytest-flopbudget:state sha=0 run=9 attempt=9 -->",
    "]]> <![CDATA[",
    "[link](https://example.com)",
    "[link][1]\n\n[1]: https://example.com",
    "![image](x.png)",
    "https://example.com/x",
    "www.example.com",
    "someone@example.com",
    "mailto:a@example.com",
    "@everyone and @org/team",
    "#123 acme/net#45 GH-6",
    "4be1a27c0d4be1a27c0d4be1a27c0d4be1a27c0d",
    "acme/net@4be1a27c0d4be1a27c0d4be1a27c0d4be1a27c0d",
    "*a* **b** _c_ __d__ ~~e~~",
    "_a",
    "a_b__c_",
    "# heading",
    "setext\n===",
    "---\n| a |\n|---|",
    "> [!CAUTION]\n> quotation",
    "- item\n1. item\n- [x] task",
    "    indented",
    "line\r\nline\u2028line\x0bline\x85line",
    "\u202egnp.exe\u2066",
    "zero\u200bwidth\ufeff",
    "&lt;b&gt; &amp; &#64; &#x3c;b>",
    "$x^2$ $$y$$ `$z$` :smile:",
    "\\",
    "a\\",
    "\x00\x1b[31mred",
    "a\udcff",
    "a" * 500,
    "|" * 500,
    "`" * 500,
    "e\u0301" * 100,
    "x flops <= 9 PFLOP - fine",
    "x removed - fine",
    "Flop-Budget-Accept: * flops <= 9 PFLOP - fine",
    "[^1] x\n\n[^1]: note",
]


class _Tree(HTMLParser):
    """The tags of a page with their attributes, and its words outside of code."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, str, tuple[Any, ...]]] = []
        self.words = ""
        self.comments: set[str] = set()
        self.open: list[str] = []
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE))
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(("start", tag, tuple(attrs)))
        if tag not in ("br", "img", "input", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("end", tag, ()))
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "code" not in self.open:
            self.words += data

    def handle_comment(self, data: str) -> None:
        self.comments.add(data)

    def handle_decl(self, decl: str) -> None:
        self.comments.add(decl)

    def unknown_decl(self, data: str) -> None:
        self.comments.add(data)


def delta(text: str, n: int, *, metric: str = "flops", **other: Any) -> Delta:
    place = Place(
        test=f"tests/{text}.py::{text}{n}",
        file=text,
        line=1,
        region=text,
        metric=metric,
        legs=(text,),
    )
    share = Share(path=text, operator=text, amount=5)
    known: dict[str, Any] = {"base": Value(value=100), "head": Value(value=130 + n)}
    return Delta(place=place, movers=(share,), **{**known, **other})


def broken(text: str, n: int, *, metric: str = "flops", value: int | None = 130) -> Delta:
    verdict = Verdict(
        region=text,
        metric=metric,
        outcome=Outcome.OVER if value else Outcome.NOT_MEASURED,
        reason=text,
        value=value,
        bound=120,
        used=1.08,
    )
    history = (90, 100, 95)
    return delta(text, n, metric=metric, verdict=verdict, limit=limit(metric, 120), history=history)


def changed_budget(text: str, n: int, what: str, **other: Any) -> BudgetChange:
    return BudgetChange(
        direction=Direction.LOOSENED,
        what=what,
        before=text,
        after=text,
        region=text,
        tests=(f"tests/{text}.py::{text}{n}",),
        source=text,
        legs=(text,),
        **other,
    )


def everything(text: str, rows: int = 1) -> Comparison:
    """A comparison with every part that a page can have, and this text wherever others write."""
    # Two words are no metric of a line, whatever they are, so none is offered for either text.
    metric = f"{text} {text}"
    each = range(rows)
    places = [delta(text, n).place for n in each]
    acceptance = Acceptance(
        tests=text,
        metric="flops",
        cap=Fraction(200),
        reason=text,
        line=text,
        set_by=text,
    )
    gone = Acceptance(tests=text, metric="", cap=None, reason=text, line=text)
    budgets = [
        change
        for n in each
        for change in (
            changed_budget(text, n, "maximum", metric="flops", bound=Fraction(200), measured=190),
            changed_budget(text, n, "test"),
            changed_budget(text, n, text, metric=metric, bound=Fraction(3)),
            BudgetChange(
                direction=Direction.LOOSENED, what=text, before=text, after=text, source=f"s{text}"
            ),
        )
    ]
    facts = tuple(FactChange(name=text, before=text, after=text, legs=(text,)) for _ in each)
    beside_base = [
        timed_delta(
            TestReport(
                id=f"tests/{text}.py::{text}{n}", file=text, line=1, outcome=TestOutcome.PASSED
            ),
            Timed(
                test=text,
                region=text,
                outcome=TimedOutcome.REGRESSED,
                reason=text,
                allowed=0.05,
                severity=Severity.ERROR,
                ratio=ratio(1.2, wall=1.5),
            ),
        )
        for n in each
    ]
    run = SideBySide(
        base=text, head=text, environment={text: text}, pairs=5, seconds=1.0, notes=(text,)
    )
    # Tests that the loosened budgets do not already tell of as gone.
    others = [replace(place, test=f"{place.test} other") for place in places]
    return Comparison(
        standing=Standing.OVER,
        has_base=True,
        timed=tuple(beside_base),
        timings=(Timings(run=run, legs=(text,)),),
        base_git=Git(commit=text, branch=text, is_dirty=False),
        head_git=Git(commit=text, branch=text, is_dirty=False),
        base_age=3,
        loosened=tuple(budgets),
        tightened=tuple(budgets),
        added=tuple(budgets),
        over=tuple(
            one
            for n in each
            for one in (
                broken(text, n),
                broken(text, n, metric=metric),
                broken(text, n, value=None),
                beside_base[n],
            )
        ),
        warned=tuple(broken(text, n) for n in each),
        accepted=tuple(
            one
            for n in each
            for one in (
                Accepted(acceptance=acceptance, delta=broken(text, n, metric=metric)),
                Accepted(acceptance=gone, change=budgets[1]),
            )
        ),
        pre_existing=tuple(broken(text, n) for n in each),
        changed=tuple(
            one
            for n in each
            for one in (
                delta(text, n + 1000, metric=metric, limit=limit(metric, 200)),
                delta(text, n + 1000, head=Value(value=50), limit=limit("flops", 200)),
                delta(text, n + 2000),
            )
        ),
        undecided=tuple(broken(text, n, metric=metric) for n in each),
        incomparable=tuple(delta(text, n, metric="latency") for n in each),
        new=tuple(Entry(place=place, reason=text, budget=text) for place in places),
        removed=tuple(Entry(place=place, reason=text, budget=text) for place in others),
        not_measured=tuple(Entry(place=place, reason=text, budget=text) for place in others),
        renamed=tuple(Rename(before=text, after=text, legs=(text,)) for _ in each),
        uncounted=tuple(
            UncountedRow(
                place=place, operator=Uncounted(operator=text, calls=2, shapes=(text, text))
            )
            for place in places
        ),
        unchanged=tuple(place.test for place in places),
        machine_changes=facts,
        version_changes=facts,
        versions=(text, text),
        measured=tuple(place.test for place in places),
        notes=(text,) * rows,
        missing_legs=tuple(f"{text}{n}" for n in each),
    )


def page(text: str) -> _Tree:
    about = {"link": LINK, "label": text}
    # Long texts must not leave out rows that the harmless page has.
    with patch.object(markdown, "COMMENT_BYTES", 10_000_000):
        return _Tree(render_comment(everything(text), is_fork=True, **about))


@pytest.fixture(scope="module")
def harmless() -> _Tree:
    return page(HARMLESS)


def check(text: str, harmless: _Tree) -> None:
    tree = page(text)
    assert tree.tags == harmless.tags
    # What is not code links nothing and calls nobody, for it is all our own.
    assert tree.words == harmless.words
    # The one comment that others can cause is the one that keeps an at sign alone.
    assert tree.comments - {" "} == harmless.comments
    assert tree.open == []


class TestStructure:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_known_tricks_leave_the_page_as_it_is(self, text: str, harmless: _Tree) -> None:
        check(text, harmless)

    @settings(deadline=None, max_examples=80)
    @given(
        text=st.text(max_size=60)
        | st.text("|`*_<>[]()!&@:/.\\#~-$=?^{}\n\r\t aw0", max_size=40)
        | st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=3).map(" ".join)
    )
    def test_no_text_changes_the_page(self, text: str, harmless: _Tree) -> None:
        # Of what is not seen at all nothing is left, and a commit without a name is none.
        assume(clean(text))
        check(text, harmless)

    def test_the_page_that_is_judged_has_every_part(self, harmless: _Tree) -> None:
        opened = [tag for kind, tag, _ in harmless.tags if kind == "start"]
        # Folded are: the lines to accept, what the base breaks, improved, with no budget,
        # tightened, added, new, removed, not measured, renamed, not decided, uncounted,
        # not comparable, facts, unchanged, and how the times were taken.
        assert opened.count("details") == 16
        # Loosened, missing and notes.
        assert opened.count("blockquote") == 3
        # Lines for the maximum, the test and the settings, and those for what is over.
        assert opened.count("pre") == 4
        assert not {"a", "img", "em", "del", "input", "script"} & {*opened}

    @pytest.mark.parametrize(
        "broken_page",
        ["| a | b |\n|---|---|\n| x|y | z |", "*x*", "a@example.com", "<b>x</b>", "#12"],
    )
    def test_the_judge_sees_what_escapes(self, broken_page: str) -> None:
        quiet = _Tree("| a | b |\n|---|---|\n| x | z |" if "|" in broken_page else "x")
        loud = _Tree(broken_page)
        assert (loud.tags, loud.words) != (quiet.tags, quiet.words)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_metric_of_one_word_changes_nothing_else(self, text: str) -> None:
        def tree(metric: str) -> _Tree:
            over = broken(HARMLESS, 1, metric="".join(metric.split()))
            loosened = changed_budget(
                HARMLESS, 1, "maximum", metric=over.place.metric, bound=Fraction(200)
            )
            return _Tree(
                render_markdown(
                    Comparison(
                        standing=Standing.OVER, has_base=True, over=(over,), loosened=(loosened,)
                    )
                )
            )

        # A metric that a line cannot hold is accepted by no line, and none is offered.
        shown, named, unnamed = tree(text), tree("plain"), tree("`plain`")
        assert named.tags != unnamed.tags
        assert (shown.tags, shown.words) in [
            (named.tags, named.words),
            (unnamed.tags, unnamed.words),
        ]


MIXED = "|`<b>@x</details>\n*y*``` "
MANY = everything(MIXED, rows=3)
FULL = render_markdown(MANY)
FULL_LINES = frozenset(FULL.splitlines())


class TestTruncation:
    @settings(deadline=None, max_examples=80)
    @given(max_bytes=st.integers(1500, len(FULL.encode()) + 1))
    def test_what_is_left_is_whole_at_every_limit(self, max_bytes: int) -> None:
        body = render_markdown(MANY, max_bytes=max_bytes)
        assert len(body.encode()) <= max_bytes
        lines = body.splitlines()
        ours = re.compile(r"(> )?and \d+ more, left out for space|<sub>\d+ rows? left out .*")
        assert [line for line in lines if line not in FULL_LINES] == [
            line for line in lines if ours.fullmatch(line)
        ]
        tree = _Tree(body)
        assert tree.open == []
        assert body == FULL or "left out for space</sub>" in body
