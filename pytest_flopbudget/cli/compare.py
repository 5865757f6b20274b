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
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.settling import hold_open, settle
from pytest_flopbudget.render.code_quality import render_code_quality
from pytest_flopbudget.render.github import annotate, outputs
from pytest_flopbudget.render.json import render_json
from pytest_flopbudget.render.junit import render_junit
from pytest_flopbudget.render.markdown import SUMMARY_BYTES, render_markdown
from pytest_flopbudget.render.terminal import render_comparison
from pytest_flopbudget.store.files import read_report


def _code_quality(comparison: Comparison) -> str:
    """The issues at paths from the root of the repository, which GitLab needs."""
    checkout = os.environ.get("CI_PROJECT_DIR")
    return render_code_quality(comparison, locate=lambda file: _located(file, Path.cwd(), checkout))


_TEXTS: Final[Mapping[str, Callable[[Comparison], str]]] = {
    "terminal": render_comparison,
    "markdown": render_markdown,
    "json": render_json,
    "junit": render_junit,
    "code-quality": _code_quality,
}
_STANDARD_INPUT: Final = Path("-")
_EXITS: Final = {
    Standing.WITHIN: Exit.WITHIN,
    Standing.OVER: Exit.OVER,
    Standing.NOTHING_MEASURED: Exit.NOTHING_MEASURED,
    Standing.ACCEPTED: Exit.WITHIN,
    Standing.NEEDS_APPROVAL: Exit.OVER,
    Standing.INCOMPLETE: Exit.USAGE,
}


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
        choices=[*_TEXTS, "github"],
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
        _tell_github(comparison, head, os.environ)
    else:
        _write(_TEXTS[args.format](comparison), args.output)
    return _EXITS[comparison.standing]


def _text(path: Path) -> str:
    try:
        if path == _STANDARD_INPUT:
            return sys.stdin.read()
        # What was cut within a character, or is of another encoding, still has readable lines.
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FlopBudgetError(f"{path}: cannot read: {error.strerror}") from error


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FlopBudgetError(f"{output}: cannot write: {error.strerror}") from error


def _tell_github(comparison: Comparison, head: Path, environ: Mapping[str, str]) -> None:
    """Annotations to standard output; the summary and outputs to the files that the job names."""
    try:
        import github_action_utils
    except ImportError as error:
        raise FlopBudgetError(
            '--format github needs one library more: pip install "pytest-flopbudget[github]"'
        ) from error
    workspace = environ.get("GITHUB_WORKSPACE")
    for annotation in annotate(
        comparison, locate=lambda file: _located(file, Path.cwd(), workspace)
    ):
        say = github_action_utils.error if annotation.is_error else github_action_utils.warning
        # No title: the library would put it before the file, and the message needs none.
        say(annotation.message, file=annotation.file or None, line=annotation.line or None)
    if environ.get("GITHUB_STEP_SUMMARY"):
        # The library ends what it writes with a line end, which counts.
        github_action_utils.append_job_summary(
            render_markdown(comparison, max_bytes=SUMMARY_BYTES - 1)
        )
    if environ.get("GITHUB_OUTPUT"):
        for name, value in {**outputs(comparison), "report-path": str(head.resolve())}.items():
            github_action_utils.set_output(name, value)


def _located(file: str, here: Path, workspace: str | None) -> str:
    """The file's path from the root of the repository, which annotations need.

    The run's root, from which reports count, is this folder or one above it.
    """
    if not workspace:
        return file
    root = Path(workspace).resolve()
    for folder in (here.resolve(), *here.resolve().parents):
        if not folder.is_relative_to(root):
            break
        if (folder / file).is_file():
            return (folder / file).relative_to(root).as_posix()
    return file
