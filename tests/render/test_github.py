"""Annotations and outputs of a job."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from pytest_flopbudget.core.acceptance import parse_acceptances
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.core.report import Report, Settings
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.github.approvals import LABEL as LABEL_THAT_IS_READ
from pytest_flopbudget.render.github import Annotation, annotate, outputs
from pytest_flopbudget.render.sentences import LABEL, way_out

from ..builders import budgeted, limit, measured, reported
from .settled import FILE, gated, loosened_alone


def crowd(count: int, maximum: int = 1) -> Report:
    """So many tests of 2 MAC each."""
    return reported(
        *(
            budgeted(
                f"t.py::test_{n}",
                measured(macs={"": 2}),
                limits=(limit("macs", maximum, source=f"marker {n}"),),
                line=n + 1,
            )
            for n in range(count)
        )
    )


def test_what_is_over_is_an_error_at_the_test(comparison: Comparison) -> None:
    first = annotate(comparison)[0]
    assert first.is_error
    assert (first.file, first.line) == ("tests/test_models.py", 7)
    assert first.message.startswith("test_mlp used 3 kMAC, budget 1.5 kMAC (+100 %)")
    assert "moved by fc1 (aten.mm): +2 kMAC" in first.message


def test_what_is_loosened_warned_of_or_uncounted_is_a_warning(comparison: Comparison) -> None:
    warnings = [one.message for one in annotate(comparison) if not one.is_error]
    assert [message.partition(" ")[0] for message in warnings] == [
        "This",
        "This",
        "test_soft",
        "test_free:",
    ]
    assert warnings[1] == (
        "This change loosens a budget: test_gone: the test is removed; "
        "its budget was macs at most 5 MAC"
    )
    assert warnings[3] == (
        "test_free: aten.sort.default has no formula (2 calls): its counts are too low"
    )


@pytest.mark.parametrize(
    ("count", "shown", "last"),
    [
        (8, 8, "test_7 used 2 MAC"),
        (9, 9, "test_8 used 2 MAC"),
        (10, 10, "and 1 more: the job summary has them all"),
        (30, 10, "and 21 more: the job summary has them all"),
    ],
)
def test_errors_above_nine_are_counted_by_the_tenth(count: int, shown: int, last: str) -> None:
    found = annotate(compare(None, crowd(count)))
    assert len(found) == shown
    assert all(one.is_error for one in found)
    assert found[-1].message.startswith(last)


def test_each_level_has_its_own_nine() -> None:
    # Every budget rises from 1 to 2 MAC, and then holds; a warning for each.
    found = annotate(compare(crowd(12), crowd(12, maximum=2)))
    assert [one.is_error for one in found] == [False] * 10
    assert found[-1] == Annotation(
        is_error=False, message="and 3 more: the job summary has them all"
    )


def test_a_budget_that_many_tests_share_is_one_warning() -> None:
    def report(maximum: int) -> Report:
        shared = limit("macs", maximum, source="pyproject.toml")
        return reported(
            *(
                budgeted(f"t.py::test_{n}", measured(macs={"": 1}), limits=(shared,))
                for n in range(5)
            )
        )

    (one,) = annotate(compare(report(2), report(3)))
    assert one.message == (
        "This change loosens a budget: test_0 and 4 more: macs maximum: 2 MAC -> 3 MAC"
    )


def test_files_are_named_from_the_root_of_the_repository(comparison: Comparison) -> None:
    found = annotate(comparison, locate=lambda file: f"models/{file}")
    assert {one.file for one in found} == {"models/tests/test_models.py"}


@pytest.mark.parametrize(("maximum", "verdict", "over"), [(1, "fail", "1"), (2, "pass", "0")])
def test_the_outputs_say_the_verdict_and_the_counts(maximum: int, verdict: str, over: str) -> None:
    comparison = compare(crowd(1, maximum=1), crowd(1, maximum=maximum))
    assert outputs(comparison) == {
        "verdict": verdict,
        "over-budget": over,
        "loosened": str(maximum - 1),
    }


def test_nothing_measured_is_neither_pass_nor_fail() -> None:
    assert outputs(compare(None, reported()))["verdict"] == "nothing-measured"


@pytest.mark.parametrize(
    ("standing", "verdict"),
    [
        (Standing.WITHIN, "pass"),
        (Standing.OVER, "fail"),
        (Standing.NOTHING_MEASURED, "nothing-measured"),
        (Standing.ACCEPTED, "accepted"),
        (Standing.NEEDS_APPROVAL, "needs-approval"),
        (Standing.INCOMPLETE, "incomplete"),
    ],
)
def test_every_standing_has_a_verdict(standing: Standing, verdict: str) -> None:
    assert outputs(Comparison(standing=standing, has_base=True))["verdict"] == verdict
    assert len(Standing) == 6


def test_the_outputs_of_a_gate_count_what_is_left() -> None:
    # Of three over budget one was accepted, and one is so on the base.
    assert outputs(gated()) == {"verdict": "fail", "over-budget": "1", "loosened": "1"}


def test_what_was_accepted_or_is_broken_before_is_a_warning_at_its_test() -> None:
    warnings = [one for one in annotate(gated()) if not one.is_error]
    assert [(one.file, one.line) for one in warnings] == [
        (FILE, 2),
        (FILE, 3),
        (FILE, 4),
        (FILE, 5),
    ]
    assert warnings[2].message.startswith("test_large used 30 MAC, budget 10 MAC (+200 %)")
    assert warnings[2].message.endswith(
        "; accepted up to 40 MAC: needed for accuracy (label set by octocat)"
    )
    assert warnings[3].message.startswith("test_old used 15 MAC, budget 10 MAC (+50 %)")
    assert warnings[3].message.endswith(" (the base breaks it too)")


def test_warnings_of_every_kind_share_their_nine() -> None:
    base = crowd(12)
    assert [one.message for one in annotate(settle(compare(base, base), base, []))][9:] == [
        "and 3 more: the job summary has them all"
    ]


def filled(line: str) -> str:
    """The line as somebody pastes it who has a reason."""
    return f"{line.removesuffix('reason')}it pays"


def test_a_loosened_budget_that_waits_for_approval_is_an_error_with_the_way_out() -> None:
    assert annotate(loosened_alone(), label="flopbudget-accept") == (
        Annotation(
            is_error=True,
            message="This change loosens a budget: test_loose: macs maximum: 10 MAC -> 20 MAC "
            "(measured 1 MAC); take it back, or have it accepted: label flopbudget-accept, and "
            "a line in the description: "
            "Flop-Budget-Accept: tests/test_net.py::test_loose macs <= 20 MAC - reason",
            file=FILE,
            line=4,
        ),
    )
    assert LABEL == LABEL_THAT_IS_READ
    # Where no label is read, none is spoken of.
    (elsewhere,) = annotate(loosened_alone())
    assert "have it accepted: a line in the text given with --accept: Flop" in elsewhere.message


def test_an_accepted_loosening_is_a_warning() -> None:
    base, head = crowd(1), crowd(1, maximum=2)
    accepted, _ = parse_acceptances("Flop-Budget-Accept: t.py::* macs <= 2 MAC - it pays")
    (one,) = annotate(settle(compare(base, head), base, accepted))
    assert not one.is_error
    assert one.message == (
        "This change loosens a budget: test_0: macs maximum: 1 MAC -> 2 MAC (measured 2 MAC); "
        "accepted up to 2 MAC: it pays"
    )


def test_a_missing_leg_is_an_error_of_no_file_and_comes_first() -> None:
    merged = merge({"cpu": loosened_alone()}, missing=["gpu"])
    first, second = annotate(merged)
    assert first == Annotation(
        is_error=True, message="Leg gpu is missing: its job failed, or left no report"
    )
    assert second.is_error
    assert "loosens a budget" in second.message


def test_legs_that_alone_are_over_are_named() -> None:
    found = annotate(merge({"cpu": compare(None, crowd(1, 2)), "gpu": compare(None, crowd(1))}))
    assert found[0].message.endswith(" (on gpu)")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (limit("flops", 5), limit("flops", 10**12 + 1)),
        (limit("flops", 5), limit("flops", 123456789)),
        (limit("latency", 0.1), limit("latency", maximum=Fraction(1, 3))),
        (limit("accuracy", minimum=0.9), limit("accuracy", minimum=Fraction(1, 3))),
        (limit("accuracy", minimum=0.5), limit("accuracy", minimum=-0.25)),
        (limit("flops", 5), limit("flops", 5, severity=Severity.WARN)),
        (limit("flops", equals=5), limit("flops", equals=6)),
        (limit("throughput", minimum=12_345_678), limit("throughput", minimum=1_234_567)),
    ],
)
@pytest.mark.parametrize("names", [("t.py::test_a",), ("t.py::test_a[x y]", "t.py::test_b")])
def test_the_line_that_is_offered_is_one_that_is_accepted(
    before: Any, after: Any, names: tuple[str, ...]
) -> None:
    def side(one: Any) -> Report:
        return reported(
            *(budgeted(name, measured(**{one.metric: 7}), limits=(one,)) for name in names)
        )

    base = side(before)
    compared = compare(base, side(after))
    lines = [filled(way_out(change).partition("--accept: ")[2]) for change in compared.loosened]
    accepted, complaints = parse_acceptances("\n".join(lines))
    assert complaints == ()
    assert lines
    settled = settle(replace(compared, over=()), base, accepted)
    assert (settled.loosened, settled.notes) == ((), compared.notes)


def test_what_is_loosened_in_the_settings_alone_is_accepted_by_its_line_too() -> None:
    base = reported(settings=Settings(file="pyproject.toml", budgets={"small": {"macs": 5}}))
    head = reported(
        settings=Settings(
            file="pyproject.toml",
            configured_mode="report",
            strict=False,
            budgets={"small": {"macs": 6}},
        )
    )
    compared = compare(base, head)
    lines = [filled(way_out(change).partition("--accept: ")[2]) for change in compared.loosened]
    assert len(lines) == 3
    accepted, complaints = parse_acceptances("\n".join(lines))
    assert complaints == ()
    assert settle(compared, base, accepted).loosened == ()
