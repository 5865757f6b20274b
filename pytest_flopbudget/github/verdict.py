"""What the gate says of legs, wherever they were read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.errors import FlopBudgetError, ReportError
from pytest_flopbudget.core.legs import Leg
from pytest_flopbudget.core.merging import merge, with_history
from pytest_flopbudget.core.settling import hold_open, settle
from pytest_flopbudget.github.artifacts import Artifact, download_leg, leg_artifacts
from pytest_flopbudget.github.rest import Client

_MOST_TESTS: Final = 100_000
"""Of a run, base and head of all its legs: so many are judged and shown in a minute."""


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
    reader = _Reader(client=client, repository=repository, warn=warn)
    for artifact in artifacts:
        found = reader.judged(artifact, acceptances)
        if found is not None:
            comparisons[artifact.leg] = found
    missing = {*expected, *(one.leg for one in artifacts)} - comparisons.keys()
    return merge(comparisons, missing=sorted(missing))


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads the legs of one run, one after the other."""

    client: Client
    repository: str
    warn: Callable[[str], None]
    tests: int = 0
    """Of all legs so far, on both sides."""

    def judged(self, artifact: Artifact, acceptances: Sequence[Acceptance]) -> Comparison | None:
        """What the gate says of the leg in an artifact.

        None, and a warning, for an unreadable one.
        """
        try:
            return judged(self._leg(artifact), acceptances)
        except FlopBudgetError as error:
            self.warn(str(error))
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Well-formed numbers that no run measures: one leg must not keep back the others.
            self.warn(f"artifact {artifact.name!r}: cannot be compared: {type(error).__name__}")
        return None

    def _leg(self, artifact: Artifact) -> Leg:
        """The leg in an artifact. Raises FlopBudgetError, also for one too many."""
        # Told without a download: each may take seconds, and there may be dozens.
        self._check_tests(artifact, 0)
        leg = download_leg(self.client, self.repository, artifact)
        tests = sum(len(report.tests) for report in (leg.base, leg.head) if report is not None)
        self._check_tests(artifact, tests)
        return leg

    def _check_tests(self, artifact: Artifact, more: int) -> None:
        self.tests += more
        if self.tests > _MOST_TESTS:
            raise ReportError(
                f"artifact {artifact.name!r}: the legs have more than {_MOST_TESTS} tests together"
            )
