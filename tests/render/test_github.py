"""Annotations and outputs of a job."""

from __future__ import annotations

import pytest

from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.render.github import Annotation, annotate, outputs

from ..builders import budgeted, limit, measured, reported


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
