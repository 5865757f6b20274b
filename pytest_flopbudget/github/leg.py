"""Puts what a job measured beside its base, as one file: `python -m` this module.

    leg DIRECTORY --name py311 --baseline rerun|branch|artifact|file

DIRECTORY holds `head.json`, and `base.json` where the base was measured in the same job.
Any other baseline is looked up here, and written there. Runs none of the project's code, so
that it may hold a token. Ends with 2 where a baseline is there and cannot be had.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pytest_flopbudget.ab.git import Git, git_in
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.legs import Leg, check_leg_name, leg_to_json
from pytest_flopbudget.github.artifacts import MEMBER
from pytest_flopbudget.github.base import base_commit
from pytest_flopbudget.github.baselines import artifact, branch, file
from pytest_flopbudget.github.baselines.baseline import Baseline
from pytest_flopbudget.github.baselines.branch import BRANCH, Store
from pytest_flopbudget.github.event import read_default_branch, read_event
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.store.files import read_report, write_report, write_text

BASELINES: Final = ("rerun", "branch", "artifact", "file")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the leg; the exit code is described above."""
    parser = argparse.ArgumentParser(prog="leg", description="Put a head beside its base.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--name", default="default")
    parser.add_argument("--baseline", default="rerun")
    parser.add_argument("--baseline-branch", default=BRANCH)
    parser.add_argument("--base-ref", default="")
    args = parser.parse_args(argv)
    try:
        check_leg_name(args.name)
        if args.baseline not in BASELINES:
            raise GitHubError(f"baseline: {args.baseline!r} is none of {', '.join(BASELINES)}")
        found = (
            _measured_here(args.directory / "base.json")
            if args.baseline == "rerun"
            else look_up(args, git_in(Path.cwd()), os.environ)
        )
        write_leg(args.directory, args.name, args.baseline, found)
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget leg: error: {error}\n")
        return 2
    if found.missing:
        sys.stdout.write(f"No baseline: {found.missing}.\n")
    elif found.age:
        sys.stdout.write(f"The baseline is {found.age} commits older than the base.\n")
    return 0


def look_up(wanted: argparse.Namespace, git: Git, environ: Mapping[str, str]) -> Baseline:
    """The baseline of the commit that the event is held against. Raises FlopBudgetError."""
    sha = base_commit(git, read_event(environ), wanted.base_ref)
    if sha is None:
        return Baseline(missing="there is no base to be held against")
    if wanted.baseline == "file":
        return file.read_baseline(git, sha, git("rev-parse", "--show-prefix") or "")
    client, repository = client_of(environ), environ.get("GITHUB_REPOSITORY", "")
    if wanted.baseline == "branch":
        store = Store(client=client, repository=repository, branch=wanted.baseline_branch)
        return branch.read_baseline(store, wanted.name, sha)
    default_branch = read_default_branch(environ)
    return artifact.read_baseline(
        client, repository, wanted.name, sha, default_branch=default_branch
    )


def write_leg(directory: Path, name: str, baseline: str, found: Baseline) -> None:
    """Write the leg, and the base's report where it was looked up. Raises ReportError."""
    leg = Leg(
        name=name,
        head=read_report(directory / "head.json"),
        base=found.report,
        baseline=baseline,
        base_age=found.age,
        history=found.history,
    )
    if found.report is not None and baseline != "rerun":
        write_report(found.report, directory / "base.json")
    write_text(directory / MEMBER, json.dumps(leg_to_json(leg), allow_nan=False) + "\n")


def client_of(environ: Mapping[str, str]) -> Client:
    """Requests with the job's token. Raises GitHubError."""
    token = environ.get("GITHUB_TOKEN", "")
    if not token:
        raise GitHubError("GITHUB_TOKEN is not set; give it the workflow's github.token")
    return Client(
        api_url=environ.get("GITHUB_API_URL", "https://api.github.com"),
        token=token,
        sleep=time.sleep,
        clock=time.time,
    )


def _measured_here(report: Path) -> Baseline:
    if not report.exists():
        return Baseline(missing="the base was not measured; the step before says why")
    return Baseline(report=read_report(report))


if __name__ == "__main__":
    raise SystemExit(main())
