"""Compare the report of a base with that of a head, and say what the change did."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.acceptance import parse_acceptances
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.settling import hold_open, settle
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.core.verdicts import inconclusive
from pytest_flopbudget.github.job import InstalledJob, located, show
from pytest_flopbudget.render.code_quality import render_code_quality
from pytest_flopbudget.render.json import render_json
from pytest_flopbudget.render.junit import render_junit
from pytest_flopbudget.render.markdown import render_markdown
from pytest_flopbudget.render.sentences import incomplete_words
from pytest_flopbudget.render.terminal import render_comparison
from pytest_flopbudget.store.files import read_report


def _code_quality(comparison: Comparison) -> str:
    """The issues at paths from the root of the repository, which GitLab needs."""
    checkout = os.environ.get("CI_PROJECT_DIR")
    return render_code_quality(comparison, locate=lambda file: located(file, Path.cwd(), checkout))


TEXTS: Final[Mapping[str, Callable[[Comparison], str]]] = {
    "terminal": render_comparison,
    "markdown": render_markdown,
    "json": render_json,
    "junit": render_junit,
    "code-quality": _code_quality,
}
_STANDARD_INPUT: Final = Path("-")


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
        "--format",
        choices=[*TEXTS, "github"],
        default="terminal",
        help="github: annotations, the job summary and outputs, in a job of GitHub Actions; "
        "code-quality: the report of GitLab of this name",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write there, and not to standard output"
    )
    parser.add_argument(
        "--gate",
        action="store_true",
        help="judge as a gate: what the base breaks too does not fail, a loosened budget does, "
        "and what --accept covers passes",
    )
    parser.add_argument(
        "--accept",
        type=Path,
        metavar="FILE",
        help="a text with lines of Flop-Budget-Accept, such as that of the pull request; "
        "- for standard input; only with --gate",
    )
    parser.add_argument(
        "--strict-latency",
        action="store_true",
        help="exit with 1 also where a latency budget of the head is inconclusive",
    )


def run(args: argparse.Namespace) -> Exit:
    """Compare, and print or write the result.

    Raises FlopBudgetError: unreadable reports, or a file that cannot be written.
    """
    *base, head = args.reports
    if len(base) > 1:
        raise FlopBudgetError("give two reports, BASE.json HEAD.json, or HEAD.json alone")
    if args.accept is not None and not args.gate:
        raise FlopBudgetError("--accept is for the gate; write --gate too")
    before, after = read_report(base[0]) if base else None, read_report(head)
    comparison = compare(before, after)
    if args.gate:
        acceptances, complaints = parse_acceptances(
            "" if args.accept is None else _text(args.accept)
        )
        comparison = hold_open(settle(comparison, before, acceptances), after)
        comparison = replace(comparison, notes=(*comparison.notes, *complaints))
    if args.format == "github":
        if args.output is not None:
            raise FlopBudgetError("--format github writes where the job reads; leave out --output")
        job = InstalledJob(os.environ, what="--format github")
        workspace = os.environ.get("GITHUB_WORKSPACE")
        show(comparison, job, locate=lambda file: located(file, Path.cwd(), workspace))
        job.set_output("report-path", str(head.resolve()))
    else:
        text = (
            render_comparison(comparison, is_gate=args.gate)
            if args.format == "terminal"
            else TEXTS[args.format](comparison)
        )
        write(text, args.output)
        if args.output is not None and comparison.standing is Standing.INCOMPLETE:
            # The exit code is also that of a usage error: without a word they look the same.
            sys.stderr.write(f"flopbudget compare: {'; '.join(incomplete_words(comparison))}\n")
    return exit_of(comparison, is_strict=args.strict_latency)


def exit_of(comparison: Comparison, *, is_strict: bool) -> Exit:
    """The exit code of a comparison.

    is_strict: whether a latency that could not be told ends with that of a broken budget; also
    one that could not be timed beside a base which has the test.
    """
    if not is_strict or comparison.standing is not Standing.WITHIN:
        return Exit(comparison.standing.exit_code)
    new = {entry.place.test for entry in comparison.new}
    is_untimed = any(
        delta.timed is not None
        and delta.timed.outcome is TimedOutcome.NOT_TIMED
        and delta.timed.severity is Severity.ERROR
        and delta.place.test not in new
        for delta in comparison.undecided
    )
    undecided = (delta.verdict for delta in comparison.undecided if delta.verdict)
    return Exit.OVER if is_untimed or inconclusive(undecided) else Exit.WITHIN


def _text(path: Path) -> str:
    try:
        if path == _STANDARD_INPUT:
            return sys.stdin.read()
        # What was cut within a character, or is of another encoding, still has readable lines.
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FlopBudgetError(f"{path}: cannot read: {error.strerror}") from error


def write(text: str, output: Path | None) -> None:
    """Write to this file, or to standard output. Raises FlopBudgetError."""
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FlopBudgetError(f"{output}: cannot write: {error.strerror}") from error
