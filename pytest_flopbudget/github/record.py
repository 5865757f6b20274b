"""Records what a push to the default branch measured, as the baseline of what comes after it.

    record --branch flopbudget-data --expect "py311 py312"

Runs in a job of its own with a token that writes: it takes the legs that the measuring jobs of
the same run left behind, as data, and runs nothing of the project. It needs no library.
Ends with 2 where a leg is missing or cannot be recorded; nothing is written then.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence

from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.legs import Leg, parse_leg_names
from pytest_flopbudget.core.verdicts import BROKEN
from pytest_flopbudget.github.artifacts import MOST_LEGS, download_leg, leg_artifacts
from pytest_flopbudget.github.baselines.branch import BRANCH, Store, write_baselines
from pytest_flopbudget.github.event import Push, read_event
from pytest_flopbudget.github.leg import client_of
from pytest_flopbudget.github.rest import Client, GitHubError


def main(argv: Sequence[str] | None = None) -> int:
    """Record the run's legs; the exit code is described above."""
    parser = argparse.ArgumentParser(prog="record", allow_abbrev=False)
    parser.add_argument("--branch", default=BRANCH)
    parser.add_argument("--expect", default="")
    args = parser.parse_args(argv)
    try:
        event = read_event(os.environ)
        if not isinstance(event, Push) or not event.is_to_default_branch:
            sys.stdout.write("Nothing is recorded: this is no push to the default branch.\n")
            return 0
        store = Store(
            client=client_of(os.environ),
            repository=os.environ.get("GITHUB_REPOSITORY", ""),
            branch=args.branch,
        )
        expected = parse_leg_names(args.expect)
        legs = _legs(store.client, store.repository, run_id_of(os.environ), expected)
        for leg in legs:
            _check(leg, event.sha)
        tip = write_baselines(store, legs, event.sha, sleep=time.sleep)
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget record: error: {error}\n")
        return 2
    for leg in legs:
        over = _over_budget(leg)
        # Recorded all the same: else every later pull request would be blamed for it.
        flag = f", over budget {over} times" if over else ""
        sys.stdout.write(
            f"Recorded {leg.name} of {event.sha[:7]}{flag} ({args.branch} {tip[:7]})\n"
        )
    return 0


def _legs(client: Client, repository: str, run_id: int, expected: Sequence[str]) -> tuple[Leg, ...]:
    artifacts = leg_artifacts(client, repository, run_id, expected=expected)
    if len(artifacts) > MOST_LEGS:
        raise GitHubError(f"run {run_id} has {len(artifacts)} legs; at most {MOST_LEGS} are read")
    missing = set(expected) - {artifact.leg for artifact in artifacts}
    if missing:
        raise GitHubError(f"the run has no leg {', '.join(sorted(missing))}")
    if not artifacts:
        raise GitHubError("the run has no legs; did the measuring job upload any?")
    return tuple(download_leg(client, repository, artifact) for artifact in artifacts)


def _check(leg: Leg, sha: str) -> None:
    if leg.head.git is None or leg.head.git.commit != sha:
        raise GitHubError(f"the leg {leg.name!r} did not measure the pushed commit {sha[:7]}")


def _over_budget(leg: Leg) -> int:
    return sum(v.outcome in BROKEN for test in leg.head.tests for v in test.verdicts)


def run_id_of(environ: Mapping[str, str]) -> int:
    """The number of this run. Raises GitHubError."""
    text = environ.get("GITHUB_RUN_ID", "")
    if not text.isdecimal():
        raise GitHubError(f"GITHUB_RUN_ID: {text!r} is no number")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
