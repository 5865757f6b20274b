"""What a user sees when a test goes over its budget."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

ROWS, FEATURES, BUDGETED, HIDDEN = 50, 100, 200, 400


@pytest.fixture(scope="module")
def failed(copy_example: Any, run_pytest: Any) -> subprocess.CompletedProcess[str]:
    """A run of the example as it stands."""
    return run_pytest(copy_example("over_budget"))


def sentence(run: subprocess.CompletedProcess[str], unit: str) -> str:
    """The line that says what was used of this unit, and of what budget."""
    lines = [line for line in run.stdout.splitlines() if unit in line and "budget" in line]
    assert lines, run.stdout + run.stderr
    return lines[0]


def test_a_test_over_its_budget_fails_the_run(failed: Any) -> None:
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "1 failed" in failed.stdout


def test_macs_are_named_with_budget_excess_and_spenders(failed: Any) -> None:
    used, budget = 2 * ROWS * FEATURES * HIDDEN, 2 * ROWS * FEATURES * BUDGETED
    assert (used, budget) == (4_000_000, 2_000_000)
    line = sentence(failed, "MMAC")
    assert "used 4 MMAC, budget 2 MMAC (+100 %)" in line
    # 50 x 100 x 400 for either layer
    assert "mlp.up (aten.addmm, 2 MMAC)" in line
    assert "mlp.down (aten.addmm, 2 MMAC)" in line


def test_flops_are_named_with_budget_excess_and_spenders(failed: Any) -> None:
    up = 2 * ROWS * FEATURES * HIDDEN + ROWS * HIDDEN  # and a bias for each result
    relu = ROWS * HIDDEN
    down = 2 * ROWS * HIDDEN * FEATURES + ROWS * FEATURES
    residual = ROWS * FEATURES
    assert (up, down, up + relu + down + residual) == (4_020_000, 4_005_000, 8_050_000)
    line = sentence(failed, "MFLOP")
    # 8.05 / 4.03 = 1.9975
    assert "used 8.05 MFLOP, budget 4.03 MFLOP (+99.8 %)" in line
    assert "mlp.up (aten.addmm, 4.02 MFLOP)" in line
    assert "mlp.down (aten.addmm, 4.005 MFLOP)" in line


def test_the_same_test_passes_at_the_width_that_the_budget_was_written_for(
    copy_example: Any, run_pytest: Any
) -> None:
    project = copy_example("over_budget")
    source = project / "test_mlp.py"
    text = source.read_text(encoding="utf-8")
    assert text.count("HIDDEN = 400") == 1
    source.write_text(text.replace("HIDDEN = 400", "HIDDEN = 200"), encoding="utf-8")
    run = run_pytest(project)
    assert run.returncode == 0, run.stdout + run.stderr


def test_report_mode_says_the_same_and_does_not_fail(copy_example: Any, run_pytest: Any) -> None:
    run = run_pytest(copy_example("over_budget"), "--flopbudget=report")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 MMAC" in run.stdout
