"""After a run: measured budgets into the settings file, and the baseline refreshed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_flopbudget.core.baseline import Merged, merge_baseline, with_settings
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.core.settings import ProjectSettings, load_settings
from pytest_flopbudget.core.updating import USABLE, plan_update


def refusal(mode: str, environ: Mapping[str, str]) -> str | None:
    """Why there must be no update in this mode and environment; None where there may be."""
    if environ.get("CI"):
        return (
            "--flopbudget-update is refused where CI is set, as a gate must not move its own "
            "bounds; update on your machine, and commit what it changed"
        )
    if mode == "off":
        return "--flopbudget-update needs measurements; leave --flopbudget=off out"
    return None


def update_project(
    report: Report, settings: ProjectSettings, *, root: Path, is_whole: bool
) -> tuple[str, ...]:
    """Rewrite the budgets and the baseline; a sentence for each change, and what was left.

    root: the folder of the settings file. is_whole: see `merge_baseline`.
    Raises FlopBudgetError for a file that cannot be read or written.
    """
    from pytest_flopbudget.store.budgetfile import rewrite_file
    from pytest_flopbudget.store.files import read_report, write_report

    if not any(test.outcome in USABLE for test in report.tests):
        return ("nothing was measured, so that no budget and no baseline is changed",)
    path = root / settings.baseline
    merged = merge_baseline(report, read_report(path) if path.exists() else None, is_whole=is_whole)
    known = {test.id for test in report.tests}
    absent = [test for test in merged.report.tests if test.id not in known]
    update = plan_update(settings, report.tests, absent)
    said: tuple[str, ...] = ("no budget is changed",)
    if update.edits and settings.file is not None:
        file = root / settings.file
        said = rewrite_file(file, update.edits)
        settings = load_settings(file, display=settings.file)
    write_report(with_settings(merged.report, settings), path)
    return (*said, *update.left, *_said_of(merged, settings.baseline))


def _said_of(merged: Merged, path: str) -> list[str]:
    """What became of the baseline."""
    said = [f"{path}: {merged.fresh} of {len(merged.report.tests)} tests as measured now"]
    if merged.kept:
        said.append(
            f"{path}: {len(merged.kept)} kept as they were, such as {merged.kept[0]}; "
            "a whole run that passes drops those that are no longer there"
        )
    said += [f"{path}: dropped {test_id}, which is no longer there" for test_id in merged.dropped]
    return said
