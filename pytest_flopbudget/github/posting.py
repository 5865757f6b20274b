"""Posts a prepared comment on the pull request of this run: `python -m` this module.

    posting COMMENT.md [--author LOGIN] [--mode post|only-update]

Prints the address of the comment, and nothing where none was written. Ends with 2, and one
line on standard error, where it cannot be.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.github.event import PullRequest, read_pull_request
from pytest_flopbudget.github.leg import client_of
from pytest_flopbudget.github.rest import GitHubError
from pytest_flopbudget.github.upsert import Outcome, RunState, acting_login, upsert_comment


def main(argv: Sequence[str] | None = None) -> int:
    """Post or update the comment; the exit code is described above."""
    parser = argparse.ArgumentParser(prog="posting", allow_abbrev=False)
    parser.add_argument("comment", type=Path)
    parser.add_argument("--author", default="")
    parser.add_argument("--mode", choices=("post", "only-update"), default="post")
    args = parser.parse_args(argv)
    try:
        body = args.comment.read_text(encoding="utf-8")
        may_post = args.mode == "post"
        url = post(body, author=args.author, may_post=may_post, environ=os.environ)
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget comment: error: {error}\n")
        return 2
    sys.stdout.write(f"{url}\n" if url else "")
    return 0


def post(body: str, *, author: str, may_post: bool, environ: Mapping[str, str]) -> str:
    """The address of the comment; empty where there is none.

    author: whose comments are ours; empty for whom the token acts as.
    may_post: false when only a comment that is already there is to be kept right.
    Raises GitHubError.
    """
    pull = read_pull_request(environ)
    if pull is None:
        raise GitHubError("this run is not about a pull request; see the comment with --dry-run")
    client = client_of(environ)
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
        if error.is_forbidden:
            raise GitHubError(f"{error}; {_permission_help(pull)}") from error
        raise
    if written.outcome is Outcome.SUPERSEDED:
        sys.stderr.write("superseded: the pull request has moved on, or a newer run commented\n")
    return written.url


def _state(pull: PullRequest, environ: Mapping[str, str]) -> RunState:
    """The run as its comment remembers it; run 0 outside of GitHub Actions. Raises GitHubError."""
    run_id, attempt = environ.get("GITHUB_RUN_ID", "0"), environ.get("GITHUB_RUN_ATTEMPT", "1")
    if not re.fullmatch(r"\d{1,20} \d{1,10}", f"{run_id} {attempt}", re.ASCII):
        raise GitHubError("GITHUB_RUN_ID and GITHUB_RUN_ATTEMPT: expected whole numbers")
    return RunState(sha=pull.head_sha, run_id=int(run_id), attempt=int(attempt))


def _permission_help(pull: PullRequest) -> str:
    if pull.read_only_for:
        return f"the token of {pull.read_only_for} can only read"
    return "the job needs 'permissions: pull-requests: write'"


if __name__ == "__main__":
    raise SystemExit(main())
