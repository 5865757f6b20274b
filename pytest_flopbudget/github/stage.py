"""The second stage: comments on a pull request with what an unprivileged run measured.

It runs with a token that writes, on the event `workflow_run`, and so it runs nothing and
installs nothing of the pull request: what it reads is data, and it needs no library.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.legs import check_leg_name, parse_leg_names
from pytest_flopbudget.github.approvals import acceptances_of, read_approval
from pytest_flopbudget.github.commands import PlainJob, say
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
from pytest_flopbudget.github.verdict import judged_run
from pytest_flopbudget.github.worth import When, is_worth_posting, parse_when
from pytest_flopbudget.render.markdown import render_comment
from pytest_flopbudget.render.sentences import LABEL

_MISCONFIGURED: Final = 2
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
        say("error", str(error))
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
        say("warning", f"the comment was not written: {error}{_help(error)}")
        return 0
    PlainJob(os.environ).set_output("comment-url", written.url)
    return 0


def comment_on(client: Client, run: WorkflowRun, options: Options) -> Upserted:
    """What became of the comment of the pull request that the run measured.

    Raises FlopBudgetError.
    """
    nothing = Upserted(outcome=Outcome.WITHHELD)
    if run.event != "pull_request" or run.conclusion in {"cancelled", "skipped"}:
        say("notice", f"nothing to comment on: {run.event or 'a run'}, {run.conclusion}")
        return nothing
    if options.when is When.NEVER:
        say("notice", "not written: comments are switched off")
        return nothing
    pull = find_pull_request(client, run)
    if pull is None:
        say("notice", f"superseded: no open pull request has {run.head_sha} as its head")
        return Upserted(outcome=Outcome.SUPERSEDED)
    acceptances, complaints = _acceptances(client, pull, options.label)
    comparison = judged_run(
        client,
        run.repository,
        run.id,
        acceptances,
        expected=options.expected,
        warn=lambda text: say("warning", text),
    )
    if comparison is None:
        say("notice", "nothing to comment on: the run left no legs behind")
        return nothing
    comparison = replace(comparison, notes=(*comparison.notes, *complaints))
    written = upsert_comment(
        client,
        pull,
        render_comment(
            comparison,
            marker_id=options.marker_id,
            link=run.url,
            is_fork=pull.is_fork,
            label=options.label,
        ),
        author=options.author or acting_login(client),
        state=RunState(sha=run.head_sha, run_id=run.id, attempt=run.attempt),
        may_post=is_worth_posting(comparison, options.when),
    )
    say("notice", f"the comment on #{pull.number}: {_WORDS[written.outcome]}")
    return written


def _acceptances(
    client: Client, pull: PullRequest, label: str
) -> tuple[tuple[Acceptance, ...], tuple[str, ...]]:
    """The lines of the pull request that count, and complaints about unreadable ones.

    None, and a warning, where the pull request cannot be read.
    """
    try:
        return acceptances_of(read_approval(client, pull.repository, pull.number, label=label))
    except GitHubError as error:
        say("warning", f"acceptances are left out: {error}")
        return (), ()


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="stage", allow_abbrev=False)
    parser.add_argument("--id", default="default")
    parser.add_argument("--expect", default="")
    parser.add_argument("--label", default=LABEL)
    parser.add_argument("--author", default="")
    parser.add_argument("--when", default="always")
    args = parser.parse_args(argv)
    return Options(
        marker_id=check_leg_name(args.id),
        expected=parse_leg_names(args.expect),
        label=args.label or LABEL,
        author=args.author,
        when=parse_when(args.when),
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
    if isinstance(error, GitHubError) and error.is_forbidden:
        return "; the job needs 'permissions: actions: read, pull-requests: write'"
    return ""
