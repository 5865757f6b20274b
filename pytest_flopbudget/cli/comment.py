"""Post the comparison of two reports as the one comment of a pull request, or update it."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.github.event import PullRequest, read_pull_request
from pytest_flopbudget.github.rest import Client, GitHubError
from pytest_flopbudget.github.upsert import Outcome, RunState, acting_login, upsert_comment
from pytest_flopbudget.github.worth import When, is_worth_posting
from pytest_flopbudget.render.markdown import render_comment
from pytest_flopbudget.store.files import read_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.add_argument(
        "reports",
        nargs="+",
        type=Path,
        metavar="REPORT",
        help="BASE.json HEAD.json, or HEAD.json alone where there is no base yet",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the comment, and touch no network"
    )
    parser.add_argument(
        "--id",
        type=_marker_id,
        default="default",
        help="tells apart several comments of one pull request (letters, digits, '.', '_', '-')",
    )
    parser.add_argument(
        "--when",
        choices=[when.value for when in When],
        default=When.ALWAYS.value,
        help="when a pull request gets a comment; one that is there is kept up to date",
    )
    parser.add_argument(
        "--author",
        default="",
        metavar="LOGIN",
        help="whose comments are ours; needed only with the token of a GitHub App, "
        "such as my-app[bot]",
    )


def run(args: argparse.Namespace) -> Exit:
    """Post, update or print the comment. The address of what was posted goes to stdout.

    Raises FlopBudgetError: unreadable reports, no pull request, or GitHub refuses.
    """
    *base, head = args.reports
    if len(base) > 1:
        raise FlopBudgetError("give two reports, BASE.json HEAD.json, or HEAD.json alone")
    comparison = compare(read_report(base[0]) if base else None, read_report(head))
    body = render_comment(comparison, marker_id=args.id)
    if args.dry_run:
        sys.stdout.write(body)
    elif args.when != When.NEVER.value:
        may_post = is_worth_posting(comparison, When(args.when))
        sys.stdout.write(_post(body, author=args.author, may_post=may_post, environ=os.environ))
    return Exit.WITHIN


def _post(body: str, *, author: str, may_post: bool, environ: Mapping[str, str]) -> str:
    """The address of the comment, on a line; nothing where there is none."""
    pull = read_pull_request(environ)
    if pull is None:
        raise FlopBudgetError(
            "this run is not about a pull request; see the comment with --dry-run"
        )
    token = environ.get("GITHUB_TOKEN", "")
    if not token:
        raise FlopBudgetError("GITHUB_TOKEN is not set; give it the workflow's github.token")
    client = Client(
        api_url=environ.get("GITHUB_API_URL", "https://api.github.com"),
        token=token,
        sleep=time.sleep,
        clock=time.time,
    )
    try:
        written = upsert_comment(
            client,
            pull,
            body,
            author=author or acting_login(client),
            state=_state(pull, environ),
            may_post=may_post,
        )
    except GitHubError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            raise GitHubError(f"{error}; {_permission_help(pull)}") from error
        raise
    if written.outcome is Outcome.SUPERSEDED:
        sys.stderr.write("superseded: the pull request has moved on, or a newer run commented\n")
    return f"{written.url}\n" if written.url else ""


def _state(pull: PullRequest, environ: Mapping[str, str]) -> RunState:
    """The run as its comment remembers it; run 0 outside of GitHub Actions."""
    run_id, attempt = environ.get("GITHUB_RUN_ID", "0"), environ.get("GITHUB_RUN_ATTEMPT", "1")
    if not re.fullmatch(r"\d{1,20} \d{1,10}", f"{run_id} {attempt}", re.ASCII):
        raise FlopBudgetError("GITHUB_RUN_ID and GITHUB_RUN_ATTEMPT: expected whole numbers")
    return RunState(sha=pull.head_sha, run_id=int(run_id), attempt=int(attempt))


def _permission_help(pull: PullRequest) -> str:
    if pull.is_fork:
        return "the token of a pull request from a fork can only read"
    return "the job needs 'permissions: pull-requests: write'"


def _marker_id(text: str) -> str:
    """The id, which stands in an HTML comment and must not end it."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) or "--" in text:
        raise argparse.ArgumentTypeError(f"{text!r} has more than letters, digits, '.', '_', '-'")
    return text
