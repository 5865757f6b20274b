"""Small reports for the tests of what compares and prints them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pytest_flopbudget.core.budgets import Budget, Limit
from pytest_flopbudget.core.judging import Context, judge_test
from pytest_flopbudget.core.measurement import (
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Uncounted,
    Value,
)
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport


def measured(
    name: str = "",
    *,
    macs: dict[str, int] | None = None,
    uncounted: tuple[Uncounted, ...] = (),
    is_partial: bool = False,
    **values: Value | float,
) -> Measurement:
    """A region whose MACs were spent by `aten.mm` under the modules of these paths."""
    spent = macs or {}
    known = {key: v if isinstance(v, Value) else Value(value=v) for key, v in values.items()}
    if macs is not None:
        known = {"macs": Value(value=sum(spent.values())), **known}
    return Measurement(
        name=name,
        values=known,
        modules=tuple(
            ModuleSpending(
                path=path,
                type="Linear",
                calls=1,
                operators=(
                    OperatorSpending(operator="aten.mm", calls=1, counts=Counts(macs=amount)),
                ),
            )
            for path, amount in spent.items()
        ),
        uncounted=uncounted,
        is_partial=is_partial,
    )


def limit(metric: str, maximum: float | None = None, **other: Any) -> Limit:
    """A limit whose amounts may be given as numbers."""
    exact = {
        key: Fraction(str(value)) if isinstance(value, (int, float)) else value
        for key, value in {"maximum": maximum, **other}.items()
    }
    return Limit(metric=metric, **exact)


def budgeted(
    test_id: str,
    *measurements: Measurement,
    limits: tuple[Limit, ...] = (),
    outcome: TestOutcome = TestOutcome.PASSED,
    line: int = 3,
    region: str = "",
    is_strict: bool = True,
) -> TestReport:
    """A test, judged as the run would have judged it."""
    budgets = (Budget(region=region, limits=limits, is_strict=is_strict),) if limits else ()
    name = test_id.rpartition("::")[2]
    verdicts = judge_test(budgets, measurements, Context(), subject=name) if measurements else ()
    return TestReport(
        id=test_id,
        file=test_id.partition("::")[0],
        line=line,
        outcome=outcome,
        measurements=measurements,
        budgets=budgets,
        verdicts=verdicts,
    )


def reported(*tests: TestReport, **other: Any) -> Report:
    """A whole run of these tests."""
    return Report(tests=tests, **{"versions": {"torch": "2.13.0"}, **other})
