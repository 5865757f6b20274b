"""What a terminal shows: 80 columns, nothing hidden that matters, nothing that moves the cursor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.measurement import Samples, Uncounted, Value
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.core.report import Report, Settings, TestOutcome
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.render.terminal import (
    render_comparison,
    render_measurement,
    render_summary,
)
from pytest_flopbudget.render.words import cut, percent, short_names

from ..builders import budgeted, limit, measured, reported
from .settled import gated, loosened_alone, side

SORT = Uncounted(operator="aten.sort.default", calls=2, shapes=("f32[4]", "f32[8]"))


class TestSummary:
    def test_each_limit_has_a_row_with_value_bound_share_and_verdict(self) -> None:
        report = reported(
            budgeted(
                "t.py::test_resnet18",
                measured(macs={"fc": 1_814_073_344}, peak_memory=90 * 2**20),
                limits=(
                    limit("macs", equals=1_814_073_344),
                    limit("peak_memory", 100 * 2**20),
                ),
            ),
            budgeted("t.py::test_wide", measured(macs={"fc": 3}), limits=(limit("macs", 2),)),
        )
        # 90 of 100 MiB is 90 %; 3 of 2 MAC is 150 %.
        assert render_summary(report).splitlines() == [
            "test_resnet18  macs         1.814 GMAC  = 1.814 GMAC  100 %  within",
            "test_resnet18  peak_memory      90 MiB    <= 100 MiB   90 %  within",
            "test_wide      macs              3 MAC      <= 2 MAC  150 %  over",
        ]

    @pytest.mark.parametrize(
        ("one", "value", "shown"),
        [
            (limit("accuracy", minimum=0.5), 0.75, ">= 0.5"),
            (limit("accuracy", 0.9, minimum=0.5), 0.55, ">= 0.5"),
            (limit("accuracy", 0.9, minimum=0.5), 0.85, "<= 0.9"),
            (limit("accuracy", 0.9, minimum=0.5), 0.95, "<= 0.9"),
            (limit("accuracy", 0.9, minimum=0.5), 0.45, ">= 0.5"),
            (limit("accuracy", equals=0.5), 0.5, "= 0.5"),
        ],
    )
    def test_the_bound_that_decided_is_shown_with_its_sign(
        self, one: object, value: float, shown: str
    ) -> None:
        report = reported(budgeted("t.py::t", measured(accuracy=value), limits=(one,)))  # type: ignore[arg-type]  # parametrised
        assert f"  {shown}  " in render_summary(report)

    def test_a_value_just_over_its_bound_never_prints_as_the_bound(self) -> None:
        report = reported(
            budgeted("t.py::t", measured(macs={"": 10**9 + 1}), limits=(limit("macs", 10**9),))
        )
        row = render_summary(report)
        assert "1.000000001 GMAC  <= 1 GMAC" in row
        assert " 100 %" not in row.replace("> 100 %", "")

    def test_a_test_without_a_budget_has_one_line(self) -> None:
        report = reported(
            budgeted("t.py::t", measured("decode", macs={"": 7}, flops=14, ops=0, peak_memory=2048))
        )
        assert render_summary(report) == (
            "t: decode  no budget  flops 14 FLOP  macs 7 MAC  peak_memory 2 KiB"
        )

    def test_nothing_measured_prints_nothing(self) -> None:
        assert render_summary(reported()) == ""
        assert render_summary(reported(budgeted("t.py::t", outcome=TestOutcome.SKIPPED))) == ""

    def test_an_uncounted_operator_is_always_told(self) -> None:
        report = reported(budgeted("t.py::t", measured(macs={"": 7}, uncounted=(SORT,))))
        assert "t: uncounted aten.sort.default (2 calls, f32[4])" in render_summary(report)

    def test_more_uncounted_operators_than_fit_are_counted(self) -> None:
        rows = tuple(replace(SORT, operator=f"aten.op{n}") for n in range(11))
        report = reported(budgeted("t.py::t", measured(macs={"": 7}, uncounted=rows)))
        text = render_summary(report)
        assert text.count("uncounted aten.op") == 8
        assert "t: and 3 more uncounted operators" in text

    def test_code_that_raised_is_told_and_not_judged(self) -> None:
        torn = measured(macs={"": 7}, is_partial=True)
        report = reported(budgeted("t.py::t", torn, limits=(limit("macs", 1),)))
        row, why = render_summary(report).splitlines()
        assert row.split() == ["t", "macs", "-", "-", "not", "measured"]
        assert why == "t: raised before its end, not judged"

    def test_a_limit_that_only_warns_says_why_since_no_failure_does(self) -> None:
        soft = limit("macs", 1, severity=Severity.WARN)
        text = render_summary(reported(budgeted("t.py::t", measured(macs={"": 2}), limits=(soft,))))
        assert "over (warn)" in text
        assert "t used 2 MAC, budget 1 MAC (+100 %)" in text

    @pytest.mark.parametrize(("mode", "is_told"), [("enforce", False), ("report", True)])
    def test_the_sentence_of_a_broken_limit_is_told_where_no_test_fails_for_it(
        self, mode: str, is_told: bool
    ) -> None:
        test = budgeted("t.py::t", measured(macs={"": 2}), limits=(limit("macs", 1),))
        text = render_summary(reported(test, settings=Settings(mode=mode)))
        assert ("t used 2 MAC, budget 1 MAC" in text) is is_told

    def test_an_inconclusive_limit_gives_its_reason(self) -> None:
        verdict = Verdict(
            region="",
            metric="latency",
            outcome=Outcome.INCONCLUSIVE,
            reason="t took 10 ms: the interval holds the bound",
        )
        test = replace(budgeted("t.py::t", measured(latency=0.01)), verdicts=(verdict,))
        text = render_summary(reported(test))
        assert "latency  -  -    inconclusive" in text
        assert text.endswith("t took 10 ms: the interval holds the bound")

    def test_what_is_within_is_cut_short_and_what_is_over_never(self) -> None:
        tests = [
            budgeted(f"t.py::test_{n}", measured(macs={"": n}), limits=(limit("macs", 60),))
            for n in range(100)
        ]
        text = render_summary(reported(*tests))
        # 0 to 60 are within, of which 40 are shown; 61 to 99 are over.
        assert text.count("within\n") == 40
        assert text.count("  over") == 39
        assert "... and 21 limits more within budget" in text

    @given(
        st.text(min_size=1, max_size=200),
        st.sampled_from(["params", "arithmetic_intensity", "a_very_long_recorded_metric_name" * 3]),
        st.integers(0, 10**18),
    )
    def test_no_line_is_wider_than_the_terminal(self, name: str, metric: str, value: int) -> None:
        report = reported(
            budgeted(
                f"t.py::{name}",
                measured(name, uncounted=(SORT,), **{metric: value}),
                limits=(limit(metric, 10**9),),
                region=name,
            ),
            budgeted(f"t.py::{name}2", measured(**{metric: value, "flops": value})),
        )
        for line in render_summary(report).split("\n"):
            assert len(line) <= 80
            assert line.isprintable()


def section(text: str, title: str) -> str:
    """What stands under the title, on one line."""
    return " ".join(text.split(f"\n\n{title}\n")[1].split("\n\n", maxsplit=1)[0].split())


TO_ACCEPT = "to have that accepted, in the text given with --accept, with your reason"


class TestComparison:
    def test_the_loosened_budgets_come_first(self, comparison: Comparison) -> None:
        lines = render_comparison(comparison).splitlines()
        assert lines[0].startswith("1 over budget · 2 budgets loosened · ")
        # The first section, behind the blank line under the title.
        assert lines[lines.index("") + 1] == "LOOSENED BUDGETS"
        assert "test_soft: macs severity: error -> warn (measured 31 MAC)" in "\n".join(lines[3:6])

    def test_a_broken_limit_says_what_moved_it(self, comparison: Comparison) -> None:
        text = " ".join(render_comparison(comparison).split())
        assert "test_mlp used 3 kMAC, budget 1.5 kMAC (+100 %)" in text
        assert "on the base 1 kMAC (+200 %), moved by fc1 (aten.mm): +2 kMAC" in text

    def test_a_change_within_budget_names_both_sides(self, comparison: Comparison) -> None:
        text = render_comparison(comparison)
        assert "test_slim: macs 80 MAC -> 60 MAC (-25 %); fc (aten.mm): -20 MAC" in text

    def test_a_wider_layer_has_one_line_a_region_where_no_budget_says_which(self) -> None:
        base, head = (
            reported(
                budgeted("t.py::test_free", measured(flops=2 * n, macs=None, ops=n, params=n)),
                budgeted(
                    "t.py::test_kept",
                    measured(flops=2 * n, params=n, accuracy=n / 10),
                    limits=(limit("params", 9),),
                ),
            )
            for n in (3, 4)
        )
        lines = render_comparison(compare(base, head)).splitlines()
        assert [line for line in lines if "->" in line] == [
            "  test_kept: params 3 -> 4 (+33.3 %)",
            "  test_kept: accuracy 0.3 -> 0.4 (+33.3 %)",
            "  test_free: flops 6 FLOP -> 8 FLOP (+33.3 %)",
        ]
        # Hidden are ops and params of the one test, and flops of the other.
        assert "  ... and 3 metrics more; --format markdown lists all" in lines

    def test_of_timings_only_the_median_has_a_line(self) -> None:
        report = reported(budgeted("t.py::t", measured(latency=0.1, latency_p95=0.2)))
        text = render_comparison(compare(report, report))
        assert "latency was 100 ms" in text
        assert "p95" not in text

    def test_every_part_has_its_title(self, comparison: Comparison) -> None:
        titles = [
            "LOOSENED BUDGETS",
            "over budget",
            "over, only warned of",
            "changed",
            "tightened budgets",
            "new",
            "not measured",
            "renamed",
            "not decided",
            "two separate runs, so not compared",
            "uncounted operators",
            "another machine or other versions",
            "notes",
            "2 tests unchanged",
        ]
        lines = render_comparison(comparison).splitlines()
        assert [line for line in lines if line in titles] == titles

    def test_what_a_gate_sets_apart_has_its_sections(self) -> None:
        text = render_comparison(replace(gated(), base_age=3))
        assert "\ncompared with a commit that is 3 commits older\n\nLOOSENED BUDGETS\n" in text
        assert section(text, "accepted") == (
            "test_large used 30 MAC, budget 10 MAC (+200 %); most spent in fc (aten.mm, 30 MAC); "
            "on the base 10 MAC (+200 %), moved by fc (aten.mm): +20 MAC; "
            "accepted up to 40 MAC: needed for accuracy (label set by octocat)"
        )
        assert section(text, "over on the base too, and no less").startswith(
            "test_old used 15 MAC, budget 10 MAC (+50 %)"
        )
        # What is explained there is no plain change beside.
        assert "test_large" not in section(text, "changed")
        assert "to have that accepted" not in text

    def test_the_right_base_is_not_spoken_of(self) -> None:
        assert "older" not in render_comparison(gated())
        assert "1 commit older" in render_comparison(replace(gated(), base_age=1))

    def test_what_waits_for_approval_comes_with_the_line_that_gives_it(self) -> None:
        text = render_comparison(loosened_alone(), is_gate=True)
        assert section(text, TO_ACCEPT) == (
            "Flop-Budget-Accept: tests/test_net.py::test_loose macs <= 20 MAC - reason"
        )
        assert "label" not in text

    def test_what_is_over_does_too_and_each_is_one_line(self) -> None:
        name = f"tests/test_net.py::test_{'x' * 100}"
        over = compare(None, side({name.partition("::")[2]: 12}, loose=10))
        text = render_comparison(over, is_gate=True)
        assert f"\n{TO_ACCEPT}\n  Flop-Budget-Accept: {name} macs <= 12 MAC - reason\n" in text
        assert "Flop-Budget-Accept" not in render_comparison(over)

    def test_a_missing_leg_stands_first(self) -> None:
        text = render_comparison(merge({"cpu": loosened_alone()}, missing=["gpu"]))
        assert text.index("INCOMPLETE\n  Leg gpu is missing") < text.index("LOOSENED BUDGETS")
        assert text.lower().count("leg gpu is missing") == 1

    def test_what_one_leg_alone_shows_names_it(self) -> None:
        fine = compare(None, side({"test_wide": 9}, loose=10))
        over = compare(None, side({"test_wide": 12}, loose=10))
        text = render_comparison(merge({"cpu": fine, "gpu": over}))
        assert section(text, "over budget").endswith(" (on gpu)")

    @given(st.text(max_size=120), st.text(max_size=120), st.sampled_from(["cpu", "x" * 100]))
    def test_no_line_of_a_gate_is_wider_than_the_terminal(
        self, name: str, reason: str, leg: str
    ) -> None:
        settled = gated()
        accepted = settled.accepted[0]
        acceptance = replace(accepted.acceptance, reason=reason, set_by=name)
        hostile = replace(
            settled,
            accepted=(replace(accepted, acceptance=acceptance),),
            loosened=loosened_alone(f"t.py::{name}").loosened,
        )
        merged = merge({leg: hostile, "other": loosened_alone()}, missing=[name])
        for line in render_comparison(merged, is_gate=True).split("\n"):
            # A line that is there to be copied stays one, however long it is.
            assert len(line) <= 80 or line.startswith("  Flop-Budget-Accept: ")
            assert line.isprintable()

    def test_a_latency_of_another_machine_does_not_stand_beside_this_ones(
        self, comparison: Comparison
    ) -> None:
        assert "  test_free: latency is 20 ms\n" in render_comparison(comparison)

    def test_a_quiet_comparison_is_two_lines(self) -> None:
        report = reported(budgeted("t.py::t", measured(macs={"": 1}), limits=(limit("macs", 2),)))
        assert render_comparison(compare(report, report)) == (
            "1 within budget\n\n1 test unchanged\n"
        )

    def test_no_measurement_at_all_is_said(self) -> None:
        assert render_comparison(compare(None, reported())).endswith("Nothing was measured.\n")

    def test_lists_are_cut_but_for_loosened_budgets(self) -> None:
        def report(maximum: int) -> Report:
            return reported(
                *(
                    budgeted(
                        f"t.py::test_{n}",
                        measured(macs={"": maximum - 1}),
                        limits=(limit("macs", maximum, source=f"marker {n}"),),
                    )
                    for n in range(30)
                )
            )

        text = render_comparison(compare(report(5), report(6)))
        assert text.count("macs maximum: 5 MAC -> 6 MAC") == 30
        assert text.count("macs 4 MAC -> 5 MAC") == 20
        assert "  ... and 10 more\n" in text

    @given(st.text(max_size=120))
    def test_no_name_moves_the_cursor_or_widens_the_page(self, name: str) -> None:
        row = replace(SORT, operator=name, shapes=(name,))
        base, head = (
            reported(
                budgeted(
                    f"t.py::{name}",
                    measured(name, macs={name: spent}, uncounted=(row,)),
                    limits=(limit("macs", spent, source=name),),
                    region=name,
                ),
                notes=(name,),
                versions={name: f"{name}{spent}"},
            )
            for spent in (1, 2)
        )
        for line in render_comparison(compare(base, head)).split("\n"):
            assert line.isprintable()
            assert len(line) <= 80


class TestMeasurement:
    def test_every_metric_has_a_line_with_its_exact_value(self) -> None:
        text = render_measurement(measured(macs={"fc": 1_814_073_344}), title="ResNet")
        assert text.splitlines()[:2] == [
            "ResNet",
            "  MACs                          1.814 GMAC             1,814,073,344",
        ]

    def test_a_sampled_value_has_its_interval_and_how_it_was_taken(self) -> None:
        timed = replace(
            measured(latency=Value(value=0.010, low=0.009, high=0.012)),
            samples=Samples(
                rounds=30,
                warmup_rounds=5,
                threads=1,
                median=0.010,
                low=0.009,
                high=0.012,
                confidence=0.95,
                p95=0.013,
                p99=0.014,
                minimum=0.008,
                maximum=0.015,
                is_steady=False,
            ),
        )
        text = render_measurement(timed, title="t")
        assert "9 ms to 12 ms" in text
        assert "latency: 30 rounds, 1 thread, intervals at 95 %, never steady" in text
        assert timed.samples is not None
        on_device = replace(timed, samples=replace(timed.samples, device="cuda:0"))
        text = render_measurement(on_device, title="t")
        assert "latency: 30 rounds, 1 thread, on cuda:0, intervals at 95 %, never steady" in text

    def test_the_largest_spenders_come_with_their_share(self) -> None:
        flops = measured(macs={"small": 1, "large": 3}, bytes_moved=1)
        flops = replace(
            flops,
            modules=tuple(
                replace(
                    module,
                    operators=tuple(
                        replace(row, counts=replace(row.counts, flops=2 * row.counts.macs))
                        for row in module.operators
                    ),
                )
                for module in flops.modules
            ),
        )
        lines = [line.split() for line in render_measurement(flops, title="t").splitlines()]
        # 6 of 8 FLOP are 75 %.
        at = lines.index(["most", "FLOPs,", "by", "module"])
        assert lines[at + 1] == ["large", "Linear", "6", "FLOP", "75", "%"]
        assert lines[at + 2] == ["small", "Linear", "2", "FLOP", "25", "%"]
        assert ["aten.mm", "x2", "8", "FLOP", "100", "%"] in lines

    def test_uncounted_operators_are_told_with_what_follows(self) -> None:
        text = render_measurement(measured(macs={"": 1}, uncounted=(SORT,)), title="t")
        assert "uncounted operators: the counts above are too low" in text
        assert "aten.sort.default (2 calls, f32[4])" in text

    def test_what_could_not_be_measured_says_why(self) -> None:
        torn = replace(measured(ops=1), absent={"rss_peak": "the system keeps no mark"})
        text = render_measurement(torn, title="t")
        assert "  process peak (RSS) was not measured: the system keeps no mark\n" in text

    def test_a_partial_measurement_says_so(self) -> None:
        torn = measured(macs={"": 1}, is_partial=True)
        assert "partial: the measured code raised" in render_measurement(torn, title="t")

    @given(st.text(max_size=200), st.text(max_size=200), st.integers(0, 10**300))
    def test_no_line_is_wider_than_the_terminal(self, name: str, path: str, value: int) -> None:
        text = render_measurement(
            measured(
                macs={path: value}, uncounted=(replace(SORT, operator=name),), **{"z" + name: 1}
            ),
            title=name,
        )
        for line in text.split("\n"):
            assert len(line) <= 80
            assert line.isprintable()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.001, "< 1 %"),
        (0.005, "< 1 %"),
        (0.0051, "1 %"),
        (0.75, "75 %"),
        (1.0, "100 %"),
        (1.004, "100.4 %"),
        (0.9999, "99.99 %"),
        (1 + 1e-9, "> 100 %"),
        (1 - 1e-9, "< 100 %"),
        (12.5, "1250 %"),
    ],
)
def test_a_share_never_prints_as_whole_when_it_is_not(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("width", "shown"), [(8, "abcdefgh"), (7, "abc…fgh"), (2, "…h"), (1, "…")])
def test_a_long_name_is_cut_in_its_middle(width: int, shown: str) -> None:
    assert cut("abcdefgh", width) == shown


def test_a_name_keeps_its_file_where_two_files_have_it() -> None:
    assert short_names(["a.py::t", "b.py::t", "b.py::T::u"]) == {
        "a.py::t": "a.py::t",
        "b.py::t": "b.py::t",
        "b.py::T::u": "T::u",
    }
