"""Post the comparison of two reports as a pull request's one comment, or update it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.settling import hold_open, settle
from pytest_flopbudget.github.posting import post
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
    before, after = read_report(base[0]) if base else None, read_report(head)
    comparison = hold_open(settle(compare(before, after), before, ()), after)
    body = render_comment(comparison, marker_id=args.id)
    if args.dry_run:
        sys.stdout.write(body)
    elif args.when != When.NEVER.value:
        may_post = is_worth_posting(comparison, When(args.when))
        url = post(body, author=args.author, may_post=may_post, environ=os.environ)
        sys.stdout.write(f"{url}\n" if url else "")
    return Exit.WITHIN


def _marker_id(text: str) -> str:
    """The id, which stands in an HTML comment and must not end it."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) or "--" in text:
        raise argparse.ArgumentTypeError(f"{text!r} has more than letters, digits, '.', '_', '-'")
    return text
