"""Measure a commit and the one it is held against side by side, latency by turns."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Final

from pytest_flopbudget.ab.run import Reports, Request, run_ab
from pytest_flopbudget.ab.signals import ending_cleanly
from pytest_flopbudget.cli.compare import TEXTS, exit_of, write
from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import parse_quantity
from pytest_flopbudget.store.files import write_report

_TIME_LIMIT: Final = "5 min"
_BLANK_LINE: Final = "\r\x1b[K"
"""On a terminal, where the next text takes the place of the last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.add_argument(
        "--base",
        required=True,
        metavar="REV",
        help="what to hold the head against: where it left this commit, branch or tag",
    )
    parser.add_argument(
        "--head",
        metavar="REV",
        help="what is held against it (default: the checkout as it stands, with its changes to "
        "tracked files)",
    )
    parser.add_argument(
        "--time-limit",
        default=_TIME_LIMIT,
        metavar="TIME",
        help="for all timing together; it ends sooner where the answer is clear "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--allocator",
        choices=("warm", "default"),
        default="warm",
        help="warm: glibc's allocator keeps what it got, in every process alike, without which "
        "processes of the same code differ by half; default: as your environment has it "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--strict-latency",
        action="store_true",
        help="exit with 1 also where a latency is unstable, inconclusive, or not timed",
    )
    parser.add_argument(
        "--setup",
        default="",
        metavar="COMMAND",
        help="run this in each side's checkout first, such as a build of its extensions",
    )
    parser.add_argument(
        "--base-python",
        default=sys.executable,
        metavar="PATH",
        help="the Python of the base, where its dependencies differ (default: this one)",
    )
    parser.add_argument(
        "--reports",
        type=Path,
        metavar="FOLDER",
        help="leave base.json and head.json there, for flopbudget compare",
    )
    parser.add_argument(
        "--format", choices=list(TEXTS), default="terminal", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write there, and not to standard output"
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="-- PYTEST ARGS",
        help="what pytest is given, on both sides",
    )


def run(args: argparse.Namespace) -> Exit:
    """Measure both sides, compare them, and print or write the result.

    Raises FlopBudgetError: what was asked for cannot be read, had or measured.
    """
    limit_s = float(parse_quantity(args.time_limit, Dimension.SECOND))
    if limit_s <= 0:
        raise FlopBudgetError("--time-limit: give a time above zero, such as '300 s'")
    # Better said before the minutes than after them.
    if args.output is not None and not args.output.absolute().parent.is_dir():
        raise FlopBudgetError(f"{args.output}: cannot write: no folder {args.output.parent}")
    try:
        setup = tuple(shlex.split(args.setup))
    except ValueError as error:
        raise FlopBudgetError(f"--setup: cannot read {args.setup!r}: {error}") from error
    request = Request(
        repository=Path.cwd(),
        base=args.base,
        head=args.head,
        arguments=tuple(args.arguments),
        base_python=args.base_python,
        setup=setup,
        time_limit_s=limit_s,
        allocator=args.allocator,
    )
    with ending_cleanly(), _Progress() as progress:
        reports = run_ab(request, say=progress.say)
    return _show(reports, args)


def _show(reports: Reports, args: argparse.Namespace) -> Exit:
    if args.reports is not None:
        write_report(reports.base, args.reports / "base.json")
        write_report(reports.head, args.reports / "head.json")
    comparison = compare(reports.base, reports.head)
    write(TEXTS[args.format](comparison), args.output)
    return exit_of(comparison, is_strict=args.strict_latency)


class _Progress:
    """How far it is, on standard error: the last line alone where somebody watches."""

    def __init__(self) -> None:
        self._is_watched = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_watched:
            sys.stderr.write(_BLANK_LINE)

    def say(self, text: str) -> None:
        """Show this line."""
        sys.stderr.write(f"{_BLANK_LINE}{text}" if self._is_watched else f"{text}\n")
        sys.stderr.flush()
