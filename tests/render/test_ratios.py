"""One line for each time that was taken beside the base, in every format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pytest_flopbudget.core.acceptance import parse_acceptances
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.report import Report, TestReport
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.core.side_by_side import Timed, TimedOutcome
from pytest_flopbudget.core.witness import Witness
from pytest_flopbudget.render.accepting import lines_for_over
from pytest_flopbudget.render.code_quality import render_code_quality
from pytest_flopbudget.render.github import annotate
from pytest_flopbudget.render.html import render_html
from pytest_flopbudget.render.junit import render_junit
from pytest_flopbudget.render.markdown import render_markdown
from pytest_flopbudget.render.ratios import ratio_rows
from pytest_flopbudget.render.terminal import render_comparison

from ..builders import BASE, HEAD, beside, budgeted, limit, measured, ratio, reported, timed

FILE = "tests/test_net.py"
REGRESSED, WITHIN = TimedOutcome.REGRESSED, TimedOutcome.WITHIN
UNSTABLE, NOT_TIMED = TimedOutcome.UNSTABLE, TimedOutcome.NOT_TIMED
SECONDS = {"latency": Value(value=0.005, low=0.0049, high=0.0051), "throughput": Value(value=200.0)}


def bounded(name: str, metric: str = "latency", **other: Any) -> TestReport:
    known = {metric: SECONDS[metric]}
    growth = limit(metric, vs_baseline=0.05, **other)
    return budgeted(f"{FILE}::{name}", measured(macs={"fc": 5}, **known), limits=(growth,), line=7)


def head_of(*found: tuple[TestReport, Timed]) -> Report:
    tests = [test for test, _ in found]
    return reported(*tests, git=HEAD, side_by_side=beside(*(timing for _, timing in found)))


def compared(*found: tuple[TestReport, Timed]) -> Comparison:
    head = head_of(*found)
    return compare(replace(head, git=BASE, side_by_side=None), head)


def found(
    name: str,
    outcome: TimedOutcome,
    ratio: Ratio | None = None,
    *,
    metric: str = "latency",
    reason: str = "took so long",
    **other: Any,
) -> tuple[TestReport, Timed]:
    test = bounded(name, metric, **other)
    return test, timed(test, outcome, ratio, reason=reason)


def everything() -> tuple[tuple[TestReport, Timed], ...]:
    """One of each: base times are 5 ms, or what is said."""
    return (
        found("test_step", WITHIN, ratio(1.013, low=0.996, high=1.029)),
        found(
            "test_encoder",
            REGRESSED,
            ratio(1.112, low=1.09, high=1.131, base_s=0.0489, noise=0.021),
            reason="took 54.4 ms, on the base 48.9 ms",
        ),
        found("test_loader", UNSTABLE, ratio(1.03, low=0.79, high=1.27, noise=0.24, base_s=0.0004)),
        found("test_fresh", NOT_TIMED, reason="the base has no such test"),
        found("test_quick", WITHIN, ratio(0.8, low=0.78, high=0.82)),
    )


def table(comparison: Comparison) -> list[list[str]]:
    """The cells of the table that a terminal shows, without its header."""
    lines = render_comparison(comparison).splitlines()
    start = lines.index("timed beside the base") + 2
    rows = [line.split() for line in lines[start:]]
    return rows[: len(comparison.timed)]


class TestTerminal:
    def test_a_line_has_times_change_interval_noise_and_a_word(self) -> None:
        text = render_comparison(compared(*everything()))
        assert [" ".join(cells) for cells in table(compared(*everything()))] == [
            "test_encoder 48.9 -> 54.4 ms +11.2 % [+9.0, +13.1] 2.1 % SLOWER",
            "test_loader 400 -> 412 µs +3.0 % [-21.0, +27.0] 24.0 % unstable",
            "test_fresh - - - - not timed",
            "test_step 5 -> 5.06 ms +1.3 % [-0.4, +2.9] 1.8 % ok",
            "test_quick 5 -> 4 ms -20.0 % [-22.0, -18.0] 1.8 % faster",
        ]
        assert all(len(line) <= 80 for line in text.splitlines())

    def test_how_it_was_done_stands_below(self) -> None:
        text = " ".join(render_comparison(compared(*everything())).split())
        assert "5 pairs of processes at most, 62.5 s, aaaaaaaaa beside bbbbbbbbb" in text
        assert "decided by CPU time for 4" in text
        assert "pinned: OMP_NUM_THREADS=1, PYTHONHASHSEED=0" in text

    def test_long_names_and_huge_changes_keep_to_the_width(self) -> None:
        wild = ratio(12.5, low=1e-9, high=1e200, noise=40.0, base_s=0.9999)
        comparison = compared(found(f"test_{'x' * 90}", UNSTABLE, wild))
        lines = render_comparison(comparison).splitlines()
        at = lines.index("timed beside the base") + 2
        assert "x12.5" in lines[at]
        assert "[-100.0, x1e+200]" in lines[at]
        assert lines[at].endswith("unstable")
        assert len(lines[at]) <= 80

    def test_a_slower_test_that_only_warns_says_so(self) -> None:
        comparison = compared(found("test_a", REGRESSED, ratio(1.2), severity=Severity.WARN))
        assert " ".join(table(comparison)[0]).endswith("slower (warn)")

    def test_a_throughput_drops_where_the_time_grows(self) -> None:
        slow = ratio(1.25, low=1.0, high=2.0)
        comparison = compared(found("test_a", REGRESSED, slow, metric="throughput"))
        # 1 / 1.25 is 0.8; of the interval, 1 / 2 is 0.5 and 1 / 1 is 1.
        assert " ".join(table(comparison)[0]) == (
            "test_a 200 -> 160 /s -20.0 % [-50.0, +0.0] 1.8 % SLOWER"
        )


class TestWitness:
    def test_wall_time_stands_beside_cpu_time_where_it_says_something_else(self) -> None:
        # 1.09 lies outside of 1.02 +- 0.01.
        comparison = compared(found("test_a", WITHIN, ratio(1.02, wall=1.09)))
        assert "test_a: by wall time +9.0 %" in render_comparison(comparison)
        assert "<br>wall +9.0 %" in render_markdown(comparison)

    @pytest.mark.parametrize(
        ("wall", "witness"), [(1.025, Witness.CPU), (1.09, Witness.WALL)], ids=["close", "wall"]
    )
    def test_it_does_not_where_both_agree_or_wall_time_decided(
        self, wall: float, witness: Witness
    ) -> None:
        comparison = compared(found("test_a", WITHIN, ratio(1.02, wall=wall, witness=witness)))
        assert ratio_rows(comparison)[0].wall == ""
        clock = "wall time" if witness is Witness.WALL else "CPU time"
        assert f"decided by {clock} for 1" in render_comparison(comparison)


class TestMarkdown:
    def test_a_row_has_times_change_interval_noise_and_a_word(self) -> None:
        page = render_markdown(compared(*everything()))
        row = next(line for line in page.splitlines() if "SLOWER" in line)
        assert row == (
            "| <code>test_encoder</code> | <code>latency</code> | 48.9 ms | 54.4 ms | +11.2 % "
            "| [+9.0, +13.1] | 2.1 % | SLOWER |"
        )
        assert "| unstable, not gated |" in page

    def test_what_is_over_is_held_to_the_change_that_is_allowed(self) -> None:
        page = render_markdown(compared(*everything()))
        section = page.partition("#### Over budget")[2]
        row = next(line for line in section.splitlines() if "test_encoder" in line)
        assert row.startswith(
            "| <code>test_encoder</code> | <code>latency</code> | 48.9 ms | 54.4 ms | +11.2 % "
            "| <= +5.0 % | - |"
        )

    def test_how_the_times_were_taken_is_folded(self) -> None:
        page = render_markdown(compared(*everything()))
        folded = page.partition("<summary>How the times were taken")[2].partition("</details>")[0]
        assert "5 pairs of processes at most" in folded
        assert "OMP_NUM_THREADS=1" in folded

    @pytest.mark.parametrize(("count", "is_folded"), [(10, False), (11, True)])
    def test_many_rows_that_say_nothing_are_folded(self, count: int, is_folded: bool) -> None:
        quiet = [found(f"test_{n}", WITHIN, ratio(1.0)) for n in range(count - 1)]
        page = render_markdown(compared(*quiet, found("test_slow", REGRESSED, ratio(1.2))))
        assert ("Timed beside the base, and not slower (10)" in page) is is_folded
        shown = page.partition("#### Timed beside the base")[2].partition("<details>")[0]
        assert "SLOWER" in shown
        assert ("| ok |" in shown) is not is_folded


class TestOtherFormats:
    def test_junit_fails_the_slower_test_and_holds_every_ratio(self) -> None:
        root = ET.fromstring(render_junit(compared(*everything())))  # noqa: S314 - our own text
        cases = {case.get("name"): case for case in root.iter("testcase")}
        failure = cases["test_encoder"].find("failure")
        assert failure is not None
        assert failure.get("message") == "test_encoder took 54.4 ms, on the base 48.9 ms"
        assert [name for name, case in cases.items() if case.find("failure") is not None] == [
            "test_encoder"
        ]
        skipped = cases["test_loader"].find("skipped")
        assert skipped is not None
        assert skipped.get("message") == "test_loader took so long: unstable, not gated"
        properties = {p.get("name"): p.get("value") for p in cases["test_encoder"].iter("property")}
        assert properties["time beside the base"] == "1.112"

    def test_annotations_stand_at_the_slower_test(self) -> None:
        (error,) = annotate(compared(*everything()))
        assert (error.is_error, error.file, error.line) == (True, FILE, 7)
        assert error.message == "test_encoder took 54.4 ms, on the base 48.9 ms"

    def test_a_ceiling_and_a_growth_are_two_issues(self) -> None:
        known = Value(value=0.005, low=0.004, high=0.006)
        test = budgeted(
            f"{FILE}::test_a", measured(latency=known), limits=(limit("latency", 0.001),)
        )
        comparison = compared((test, timed(test, REGRESSED, ratio(1.2))))
        issues = json.loads(render_code_quality(comparison))
        assert len(issues) == len({issue["fingerprint"] for issue in issues}) == 2

    def test_a_page_of_the_head_shows_its_timings(self) -> None:
        page = render_html(head_of(*everything()))
        section = page.partition("<h2>Timed beside the base</h2>")[2].partition("<h2>")[0]
        assert ">SLOWER</span>" in section
        assert "[+9.0, +13.1]" in section
        assert "pinned: OMP_NUM_THREADS=1" in section
        assert "Timed beside the base" not in render_html(reported(bounded("test_a")))

    def test_the_title_counts_what_is_slower_and_what_is_faster(self) -> None:
        first = render_comparison(compared(*everything())).splitlines()[0]
        assert first.startswith("1 regressed · 1 improved · 2 within budget")

    def test_two_legs_are_two_rows_that_name_them(self) -> None:
        legs = {
            name: compared(found("test_a", WITHIN, ratio(estimate)))
            for name, estimate in (("cpu", 1.01), ("gpu", 1.02))
        }
        merged = merge(legs)
        page = render_markdown(merged)
        assert page.count("on <code>cpu</code>") == page.count("on <code>gpu</code>") == 1
        assert "aaaaaaaaa beside bbbbbbbbb (on gpu)" in render_comparison(merged)


class TestAccepting:
    @pytest.mark.parametrize(
        ("metric", "line"),
        [
            # The interval ends at +13.1 %; for calls a second, at 1 / 1.131 - 1 = -11.6 %.
            ("latency", "latency <= +14% - reason"),
            ("throughput", "throughput >= -12% - reason"),
        ],
    )
    def test_the_line_offered_accepts_what_the_next_run_may_find(
        self, metric: str, line: str
    ) -> None:
        slow = ratio(1.112, low=1.09, high=1.131)
        test, timing = found("test_a", REGRESSED, slow, metric=metric)
        comparison = compared((test, timing))
        (offered,) = lines_for_over(comparison.over)
        assert offered == f"Flop-Budget-Accept: {FILE}::test_a {line}"
        base = reported(test, git=BASE)
        for estimate, standing in ((1.131, Standing.ACCEPTED), (1.15, Standing.OVER)):
            again = timed(test, REGRESSED, ratio(estimate))
            later = compare(base, reported(test, git=HEAD, side_by_side=beside(again)))
            filled = offered.removesuffix("reason") + "it pays"
            assert settle(later, base, parse_acceptances(filled)[0]).standing is standing

    def test_the_worst_region_of_a_test_makes_the_cap(self) -> None:
        tests = budgeted(
            f"{FILE}::test_a",
            measured("a", latency=0.005),
            measured("b", latency=0.005),
            limits=(limit("latency", vs_baseline=0.05),),
            region="a",
        )
        both = replace(tests, budgets=(*tests.budgets, replace(tests.budgets[0], region="b")))
        timings = [
            timed(both, REGRESSED, ratio(estimate, spread=0.0), region=region)
            for region, estimate in (("a", 1.125), ("b", 1.5))
        ]
        head = reported(both, git=HEAD, side_by_side=beside(*timings))
        (line,) = lines_for_over(compare(reported(both, git=BASE), head).over)
        assert line.endswith("latency <= +50% - reason")

    def test_what_was_accepted_is_shown_in_percent(self) -> None:
        test, timing = found("test_a", REGRESSED, ratio(1.12))
        line = f"Flop-Budget-Accept: {FILE}::test_a latency <= +15% - it pays"
        base = reported(test, git=BASE)
        settled = settle(compared((test, timing)), base, parse_acceptances(line)[0])
        assert "accepted up to +15 %: it pays" in " ".join(render_comparison(settled).split())
        assert "| <= +15 % |" in render_markdown(settled)
