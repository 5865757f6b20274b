"""A gate's comparison that shows each thing which a finding can be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.report import Report, TestOutcome
from pytest_flopbudget.core.settling import settle

from ..builders import budgeted, limit, measured, reported

FILE = "tests/test_net.py"

ACCEPTS_LARGE = Acceptance(
    tests=f"{FILE}::test_large",
    metric="macs",
    cap=Fraction(40),
    reason="needed for accuracy",
    line="Flop-Budget-Accept: ...",
    set_by="octocat",
)


def side(spent: dict[str, int], loose: int, *, is_measured: bool = True) -> Report:
    """A run: MACs by test, each allowed 10, but `test_loose` as given."""
    warns = limit("macs", 10, severity=Severity.WARN)
    allowed = {"test_soft": warns, "test_loose": limit("macs", loose)}
    tests = [
        budgeted(
            f"{FILE}::{name}",
            measured(macs={"fc": macs}),
            limits=(allowed.get(name, limit("macs", 10)),),
            line=n,
        )
        for n, (name, macs) in enumerate(spent.items(), start=1)
    ]
    gone = f"{FILE}::test_off"
    if is_measured:
        tests.append(budgeted(gone, measured(macs={"fc": 1}), limits=(warns,)))
    else:
        # Of a limit that only warns: one that is enforced would fail with its test.
        budget = budgeted(gone, measured(macs={"fc": 1}), limits=(warns,))
        tests.append(
            replace(budget, outcome=TestOutcome.PASSED, measurements=(), verdicts=(), line=9)
        )
    return reported(*tests)


def gated() -> Comparison:
    """One test each that is over, loosened, warned of, accepted, over before, within, not run."""
    names = ("test_wide", "test_loose", "test_soft", "test_large", "test_old", "test_fine")
    base = side(dict(zip(names, (10, 10, 10, 10, 15, 10), strict=True)), loose=10)
    head = side(dict(zip(names, (12, 11, 13, 30, 15, 9), strict=True)), loose=20, is_measured=False)
    settled = settle(compare(base, head), base, [ACCEPTS_LARGE])
    assert settled.standing is Standing.OVER
    return settled


def loosened_alone(
    test: str = f"{FILE}::test_loose", *, before: int = 10, now: int = 20
) -> Comparison:
    """A gate that nothing but a loosened budget keeps from passing."""

    def one(maximum: int) -> Report:
        return reported(
            budgeted(test, measured(macs={"fc": 1}), limits=(limit("macs", maximum),), line=4)
        )

    base = one(before)
    settled = settle(compare(base, one(now)), base, [])
    assert settled.standing is Standing.NEEDS_APPROVAL
    return settled
