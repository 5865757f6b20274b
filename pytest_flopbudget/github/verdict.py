"""What the gate says of legs, wherever they were read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.legs import Leg
from pytest_flopbudget.core.merging import merge, with_history
from pytest_flopbudget.core.settling import hold_open, settle
from pytest_flopbudget.github.artifacts import Artifact, download_leg, leg_artifacts
from pytest_flopbudget.github.rest import Client


def judged(leg: Leg, acceptances: Sequence[Acceptance]) -> Comparison:
    """What the gate says of one leg."""
    compared = with_history(compare(leg.base, leg.head), leg.history)
    settled = settle(replace(compared, base_age=leg.base_age), leg.base, acceptances)
    return hold_open(settled, leg.head)


def judged_run(
    client: Client,
    repository: str,
    run_id: int,
    acceptances: Sequence[Acceptance],
    *,
    expected: Sequence[str],
    warn: Callable[[str], None],
) -> Comparison | None:
    """What the gate says of a run; None where it left nothing behind and nothing was expected.

    expected: names of the legs; empty for those that are there.
    warn: told of each leg that cannot be read, which is then a missing one.
    Raises GitHubError.
    """
    artifacts = leg_artifacts(client, repository, run_id, expected=expected)
    if not artifacts and not expected:
        return None
    comparisons: dict[str, Comparison] = {}
    for artifact in artifacts:
        found = _leg_of(client, repository, artifact, acceptances, warn)
        if found is not None:
            comparisons[artifact.leg] = found
    missing = {*expected, *(one.leg for one in artifacts)} - comparisons.keys()
    return merge(comparisons, missing=sorted(missing))


def _leg_of(
    client: Client,
    repository: str,
    artifact: Artifact,
    acceptances: Sequence[Acceptance],
    warn: Callable[[str], None],
) -> Comparison | None:
    """What the gate says of the leg in an artifact; None, and a warning, for an unreadable one."""
    try:
        return judged(download_leg(client, repository, artifact), acceptances)
    except FlopBudgetError as error:
        warn(str(error))
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Well-formed numbers that no run measures: one leg must not keep back the others.
        warn(f"artifact {artifact.name!r}: cannot be compared: {type(error).__name__}")
    return None
