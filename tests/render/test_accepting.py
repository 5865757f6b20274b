"""The lines that a page offers: pasted into a pull request, each accepts what it stands for."""

from __future__ import annotations

import html
import re
from fractions import Fraction
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_flopbudget.core.acceptance import parse_acceptances
from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import BudgetChange, Direction, Standing
from pytest_flopbudget.core.measurement import Uncounted, Value
from pytest_flopbudget.core.metrics import Better
from pytest_flopbudget.core.report import Settings, TestOutcome, TestReport
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.render.accepting import lines_for_change
from pytest_flopbudget.render.markdown import render_markdown

from ..builders import budgeted, limit, measured, reported

A = "tests/test_a.py::test_a"


def spent(macs: int, maximum: float, test: str = A, **other: Any) -> TestReport:
    return budgeted(test, measured(macs={"fc": macs}), limits=(limit("macs", maximum),), **other)


def scored(value: float, minimum: float) -> TestReport:
    known = Value(value=value, better=Better.HIGHER)
    return budgeted(A, measured(score=known), limits=(limit("score", minimum=minimum),))


def timed(median: float, maximum: float) -> TestReport:
    known = Value(value=median, low=median * 0.9, high=median * 1.1)
    return budgeted(A, measured(latency=known), limits=(limit("latency", maximum),))


def unknown(*operators: str) -> TestReport:
    rows = tuple(Uncounted(operator=name, calls=1, shapes=()) for name in operators)
    return budgeted(A, measured(macs={"fc": 1}, uncounted=rows), limits=(limit("macs", 9),))


def offered(markdown: str) -> str:
    """The lines of the page that stand ready to be copied, as its reader sees them."""
    page = cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE)
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    return html.unescape("".join(blocks))


def filled(lines: str) -> str:
    """The lines as somebody pastes them who has a reason."""
    return re.sub("reason$", "it pays", lines, flags=re.MULTILINE)


CASES = {
    "maximum": (reported(spent(9, 10)), reported(spent(9, 20))),
    # 4 digits say 2 GMAC, which is less than is allowed.
    "maximum that rounds down": (reported(spent(9, 10)), reported(spent(9, 2_000_000_001))),
    "maximum of a third": (
        reported(spent(9, 10)),
        reported(
            budgeted(
                A, measured(macs={"fc": 9}), limits=(Limit(metric="macs", maximum=Fraction(40, 3)),)
            )
        ),
    ),
    "floor": (reported(scored(0.9, 0.9)), reported(scored(0.9, 0.8))),
    "floor below zero": (reported(scored(0.9, -0.25)), reported(scored(0.9, -1234567.5))),
    "limit taken away": (
        reported(spent(9, 10)),
        reported(budgeted(A, measured(macs={"fc": 9}, params=3), limits=(limit("params", 10),))),
    ),
    "removed": (
        reported(spent(9, 10), spent(9, 10, "tests/test_a.py::test_b")),
        reported(spent(9, 10)),
    ),
    "skipped": (
        reported(spent(9, 10), spent(9, 10, "t.py::test_b")),
        reported(spent(9, 10), budgeted("t.py::test_b", outcome=TestOutcome.SKIPPED)),
    ),
    "settings": (
        reported(spent(9, 10), settings=Settings(budgets={"net": {"macs": "1 kMAC"}})),
        reported(spent(9, 10), settings=Settings(budgets={"net": {"macs": "2 kMAC"}})),
    ),
    "mode": (
        reported(spent(9, 10), settings=Settings(configured_mode="enforce")),
        reported(spent(9, 10), settings=Settings(configured_mode="report")),
    ),
    "over": (reported(spent(9, 10)), reported(spent(2_000_000_001, 10))),
    "over in parametrized tests": (
        reported(spent(9, 10, f"{A}[x - y <= 3]"), spent(9, 10, f"{A}[*]")),
        reported(spent(12, 10, f"{A}[x - y <= 3]"), spent(13, 10, f"{A}[*]")),
    ),
    "under a floor": (reported(scored(0.9, 0.9)), reported(scored(1 / 3, 0.9))),
    "too slow": (reported(timed(0.01, 1)), reported(timed(2.3456789, 1))),
    "uncounted": (reported(unknown()), reported(unknown("aten.a", "aten.b"))),
    "many tests": (
        reported(*(spent(9, 10, f"tests/test_a.py::test_{n}") for n in range(30)), spent(9, 10)),
        reported(*(spent(9, 20, f"tests/test_a.py::test_{n}") for n in range(30)), spent(9, 10)),
    ),
}


class TestRoundTrip:
    @pytest.mark.parametrize("case", CASES)
    def test_what_is_pasted_accepts_everything(self, case: str) -> None:
        base, head = CASES[case]
        comparison = settle(compare(base, head), base, ())
        assert comparison.standing in (Standing.OVER, Standing.NEEDS_APPROVAL)
        acceptances, complaints = parse_acceptances(filled(offered(render_markdown(comparison))))
        assert complaints == ()
        after = settle(compare(base, head), base, acceptances)
        assert (after.standing, after.over, after.loosened) == (Standing.ACCEPTED, (), ())
        # Each line is for something: none is told of as idle.
        assert after.notes == comparison.notes

    @pytest.mark.parametrize("case", CASES)
    def test_what_is_pasted_without_a_reason_accepts_nothing(self, case: str) -> None:
        base, head = CASES[case]
        text = offered(render_markdown(settle(compare(base, head), base, ())))
        acceptances, complaints = parse_acceptances(text)
        assert acceptances == ()
        assert len(complaints) == len(text.splitlines()) > 0
        assert all("'reason' is no reason; " in complaint for complaint in complaints)

    def test_the_line_is_capped_at_what_was_seen(self) -> None:
        base, head = reported(spent(9, 10)), reported(spent(2_000, 10))
        comparison = settle(compare(base, head), base, ())
        text = offered(render_markdown(comparison))
        assert text == f"Flop-Budget-Accept: {A} macs <= 2 kMAC - reason\n"
        worse = reported(spent(2_001, 10))
        acceptances, _ = parse_acceptances(filled(text))
        assert settle(compare(base, worse), base, acceptances).standing is Standing.OVER

    @pytest.mark.parametrize(
        ("bound", "text"),
        [
            (2_000_000_000, "2 GMAC"),
            # 4, 5 and 6 digits say less: a hundredth of a thousandth is added.
            (2_000_000_001, "2.00002 GMAC"),
            (1_234_400, "1.2344 MMAC"),
            # Rounded up, four digits are enough.
            (1_234_600, "1.235 MMAC"),
        ],
    )
    def test_an_amount_has_as_few_digits_as_reach_it(self, bound: int, text: str) -> None:
        (line,) = lines_for_change(loosened(A, bound=Fraction(bound)))
        assert f" macs <= {text} - " in line

    def test_a_timing_may_reach_the_far_end_of_its_interval_again(self) -> None:
        base = reported(timed(0.01, 1))
        comparison = settle(compare(base, reported(timed(2, 1))), base, ())
        # The median is 2 s, and the interval ends at a tenth more.
        assert " latency <= 2.2 s - " in offered(render_markdown(comparison))

    def test_what_was_not_measured_cannot_be_accepted(self) -> None:
        torn = budgeted(A, measured(params=3), limits=(limit("macs", 10),))
        base = reported(spent(9, 10))
        comparison = settle(compare(base, reported(torn)), base, ())
        assert [delta.verdict and delta.verdict.value for delta in comparison.over] == [None]
        assert offered(render_markdown(comparison)) == ""

    @given(name=st.text(min_size=1, max_size=80), bound=st.integers(1, 10**15))
    def test_a_line_is_offered_for_every_name_and_covers_it(self, name: str, bound: int) -> None:
        (line,) = lines_for_change(loosened(f"t.py::{name}", bound=Fraction(bound)))
        (found,), complaints = parse_acceptances(filled(line))
        assert complaints == ()
        assert found.covers(f"t.py::{name}")
        assert found.metric == "macs"
        assert found.cap is not None
        # Four digits may round up by half of the last one.
        assert bound <= found.cap <= bound * Fraction(1_001, 1_000)

    @given(name=st.text("x flops<=>9PFLOP- removed*?`[]", min_size=1, max_size=60))
    def test_no_name_makes_a_line_accept_another_value(self, name: str) -> None:
        assume(name.strip())
        for line in lines_for_change(loosened(name, bound=Fraction(200))):
            (found,), _ = parse_acceptances(filled(line))
            assert (found.metric, found.cap, found.reason) == ("macs", 200, "it pays")
            # Whatever stands in for a character of the name stands for one alone.
            assert "*" not in found.tests
            assert len(found.tests) == len(name)

    def test_a_name_too_long_for_a_line_is_shortened_to_a_pattern(self) -> None:
        name = f"t.py::test[{'a' * 2000}]"
        (line,) = lines_for_change(loosened(name, bound=Fraction(200)))
        ((found,), _) = parse_acceptances(filled(line))
        assert found.covers(name)
        assert not found.covers("t.py::test[b]")

    @pytest.mark.parametrize("metric", ["two words", "`quoted`", "a\u202eb", "x\nmacs"])
    def test_a_metric_that_no_line_can_name_gets_none(self, metric: str) -> None:
        assert lines_for_change(loosened(A, metric=metric, bound=Fraction(2))) == ()

    def test_a_pattern_for_many_tests_stays_within_each_file(self) -> None:
        tests = [f"{file}.py::test_x{n}" for file in ("a", "b") for n in range(11)]
        lines = lines_for_change(loosened(*tests, bound=Fraction(200)))
        assert lines == (
            "Flop-Budget-Accept: a.py::test_x* macs <= 200 MAC - reason",
            "Flop-Budget-Accept: b.py::test_x* macs <= 200 MAC - reason",
        )
        assert len(lines_for_change(loosened(*tests[:20], bound=Fraction(200)))) == 20


def loosened(*tests: str, metric: str = "macs", bound: Fraction | None = None) -> BudgetChange:
    return BudgetChange(
        direction=Direction.LOOSENED,
        what="maximum",
        before="100 MAC",
        after="200 MAC",
        metric=metric,
        tests=tests,
        bound=bound,
    )
