"""The second stage: comments on a pull request with what an unprivileged run measured.

It runs with a token that writes, on the event `workflow_run`, and so it runs nothing and
installs nothing of the pull request: what it reads is data, and it needs no library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.legs import Leg, check_leg_name
from pytest_flopbudget.core.merging import merge, with_history
from pytest_flopbudget.core.settling import settle
from pytest_flopbudget.github.approvals import LABEL, acceptances_of, read_approval
from pytest_flopbudget.github.artifacts import Artifact, download_leg, leg_artifacts
from pytest_flopbudget.github.event import PullRequest
from pytest_flopbudget.github.pulls import WorkflowRun, find_pull_request, parse_workflow_run
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.github.upsert import (
    Outcome,
    RunState,
    Upserted,
    acting_login,
    upsert_comment,
)
from pytest_flopbudget.github.worth import When, is_worth_posting
from pytest_flopbudget.render.markdown import render_comment
from pytest_flopbudget.render.words import clean, cut

_MISCONFIGURED: Final = 2
_LONGEST_MESSAGE: Final = 600
_WORDS: Final = {
    Outcome.POSTED: "posted",
    Outcome.UPDATED: "updated",
    Outcome.UNCHANGED: "already says this",
    Outcome.SUPERSEDED: "not written: the pull request has moved on, or a newer run wrote it",
    Outcome.WITHHELD: "not written: there is nothing to say",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the workflow asks for."""

    marker_id: str
    expected: tuple[str, ...]
    """Names of the legs; empty for those that are there."""
    label: str
    author: str
    """Empty for whom the token acts as."""
    when: When


def main(argv: Sequence[str] | None = None) -> int:
    """Write the comment, and say on standard output what became of it.

    Returns 0 also when GitHub refuses, which is a warning: the comment is decoration, and the
    verdict is that of the measuring job. 2 when the workflow is set up wrongly.
    """
    try:
        options = _options(argv)
        run, token = _run_of(os.environ)
    except FlopBudgetError as error:
        _say("error", str(error))
        return _MISCONFIGURED
    try:
        client = Client(
            api_url=os.environ.get("GITHUB_API_URL", "https://api.github.com"),
            token=token,
            sleep=time.sleep,
            clock=time.time,
        )
        written = comment_on(client, run, options)
    except FlopBudgetError as error:
        _say("warning", f"the comment was not written: {error}{_help(error)}")
        return 0
    _output("comment-url", written.url, os.environ)
    return 0


def comment_on(client: Client, run: WorkflowRun, options: Options) -> Upserted:
    """What became of the comment of the pull request that the run measured.

    Raises FlopBudgetError.
    """
    nothing = Upserted(outcome=Outcome.WITHHELD)
    if run.event != "pull_request" or run.conclusion in {"cancelled", "skipped"}:
        _say("notice", f"nothing to comment on: {run.event or 'a run'}, {run.conclusion}")
        return nothing
    if options.when is When.NEVER:
        _say("notice", "not written: comments are switched off")
        return nothing
    pull = find_pull_request(client, run)
    if pull is None:
        _say("notice", f"superseded: no open pull request has {run.head_sha} as its head")
        return Upserted(outcome=Outcome.SUPERSEDED)
    comparison = _measured(client, pull, run, options)
    if comparison is None:
        _say("notice", "nothing to comment on: the run left no legs behind")
        return nothing
    written = upsert_comment(
        client,
        pull,
        render_comment(comparison, marker_id=options.marker_id),
        author=options.author or acting_login(client),
        state=RunState(sha=run.head_sha, run_id=run.id, attempt=run.attempt),
        may_post=is_worth_posting(comparison, options.when),
    )
    _say("notice", f"the comment on #{pull.number}: {_WORDS[written.outcome]}")
    return written


def judged(leg: Leg, acceptances: Sequence[Acceptance]) -> Comparison:
    """What the gate says of one leg."""
    compared = with_history(compare(leg.base, leg.head), leg.history)
    return settle(replace(compared, base_age=leg.base_age), leg.base, acceptances)


def _measured(
    client: Client, pull: PullRequest, run: WorkflowRun, options: Options
) -> Comparison | None:
    """What the gate says of the run; None where it left nothing behind and nothing was expected.

    A leg that cannot be read is a warning here, and missing in the comment.
    """
    artifacts = leg_artifacts(client, run.repository, run.id, expected=options.expected)
    if not artifacts and not options.expected:
        return None
    acceptances = _acceptances(client, pull, options.label)
    comparisons: dict[str, Comparison] = {}
    unreadable: list[str] = []
    for artifact in artifacts:
        found = _leg_of(client, run, artifact, acceptances)
        if found is None:
            unreadable.append(artifact.leg)
        else:
            comparisons[artifact.leg] = found
    missing = {*options.expected, *unreadable} - comparisons.keys()
    return merge(comparisons, missing=sorted(missing))


def _leg_of(
    client: Client, run: WorkflowRun, artifact: Artifact, acceptances: Sequence[Acceptance]
) -> Comparison | None:
    """What the gate says of the leg in an artifact; None, and a warning, for an unreadable one."""
    try:
        return judged(download_leg(client, run.repository, artifact), acceptances)
    except FlopBudgetError as error:
        _say("warning", str(error))
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Well-formed numbers that no run measures: one leg must not keep back the others.
        _say("warning", f"artifact {artifact.name!r}: cannot be compared: {type(error).__name__}")
    return None


def _acceptances(client: Client, pull: PullRequest, label: str) -> tuple[Acceptance, ...]:
    """The lines of the pull request that count; none, and a warning, where it cannot be read."""
    try:
        approval = read_approval(client, pull.repository, pull.number, label=label)
    except GitHubError as error:
        _say("warning", f"acceptances are left out: {error}")
        return ()
    acceptances, complaints = acceptances_of(approval)
    for complaint in complaints:
        _say("warning", complaint)
    return acceptances


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="stage", allow_abbrev=False)
    parser.add_argument("--id", default="default")
    parser.add_argument("--expect", default="")
    parser.add_argument("--label", default=LABEL)
    parser.add_argument("--author", default="")
    parser.add_argument("--when", default="always")
    args = parser.parse_args(argv)
    words = [when.value for when in When]
    if args.when not in words:
        raise GitHubError(f"comment: {args.when!r} is none of {', '.join(words)}")
    expected = tuple(args.expect.replace(",", " ").split())
    return Options(
        marker_id=check_leg_name(args.id),
        expected=tuple(check_leg_name(name) for name in expected),
        label=args.label or LABEL,
        author=args.author,
        when=When(args.when),
    )


def _run_of(environ: Mapping[str, str]) -> tuple[WorkflowRun, str]:
    """The run that this one was started by, and the token. Raises GitHubError."""
    if environ.get("GITHUB_EVENT_NAME") != "workflow_run":
        raise GitHubError("run this on the event workflow_run alone; see docs/forks.md")
    path = Path(environ.get("GITHUB_EVENT_PATH", ""))
    try:
        payload = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GitHubError(f"GITHUB_EVENT_PATH: cannot read {str(path)!r}") from error
    token = environ.get("GITHUB_TOKEN", "")
    if not token:
        raise GitHubError("the input 'token' is empty")
    return parse_workflow_run(payload, repository=environ.get("GITHUB_REPOSITORY", "")), token


def _help(error: FlopBudgetError) -> str:
    if isinstance(error, GitHubError) and error.status == HTTPStatus.FORBIDDEN:
        return "; the job needs 'permissions: actions: read, pull-requests: write'"
    return ""


def _say(level: str, text: str) -> None:
    """An annotation of the run. What it says may be by others, and stays within its line."""
    line = cut(clean(text), _LONGEST_MESSAGE).replace("%", "%25")
    sys.stdout.write(f"::{level} title=Compute budget::{line}\n")
    sys.stdout.flush()


def _output(name: str, value: str, environ: Mapping[str, str]) -> None:
    path = environ.get("GITHUB_OUTPUT")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{name}={clean(value)}\n")
