"""The verdict of a job, or of all jobs of a run: `python -m` this module.

    gate LEG.json... [--expect "py311 py312"]    in the job that measured
    gate [--expect "py311 py312"]                in a job after those that measured

Writes annotations, the job summary and outputs, and prepares the comment of a pull request.
With no file the legs are taken from the run's artifacts, and no library is needed.
Ends with 0 when everything is within budget or accepted, 1 when something is over budget or
needs approval, 2 when a leg is missing or nothing can be said, 3 when nothing was measured.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.errors import FlopBudgetError, ReportError
from pytest_flopbudget.core.legs import LEG_BYTES, Leg, check_leg_name, decode_leg, parse_leg_names
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.github.approvals import acceptances_of, approval_in, read_approval
from pytest_flopbudget.github.commands import PlainJob, say
from pytest_flopbudget.github.event import (
    Event,
    MergeGroup,
    PullRequest,
    read_event,
    read_payload,
)
from pytest_flopbudget.github.job import InstalledJob, Job, located, show
from pytest_flopbudget.github.leg import client_of
from pytest_flopbudget.github.record import run_id_of
from pytest_flopbudget.github.rest import GitHubError
from pytest_flopbudget.github.verdict import judged, judged_run
from pytest_flopbudget.github.worth import When, is_worth_posting, parse_when
from pytest_flopbudget.render.markdown import render_comment
from pytest_flopbudget.render.sentences import LABEL

_CANNOT_JUDGE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the workflow asks for."""

    legs: tuple[Path, ...]
    """Files; empty for the artifacts of the run."""
    expected: tuple[str, ...]
    label: str
    root: str
    """Where the reports' paths begin, relative to the repository; for artifacts alone."""
    comment_to: Path | None
    """Where the comment of a pull request is written to; None for nowhere."""
    marker_id: str
    when: When


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the legs; the exit code is described above."""
    try:
        options = _options(argv)
        event = read_event(os.environ)
        job: Job = (
            InstalledJob(os.environ, what="the gate") if options.legs else PlainJob(os.environ)
        )
        comparison = compared(options, event, os.environ)
        show(comparison, job, locate=_locator(options, os.environ), label=options.label)
        if options.comment_to is not None:
            _prepare_comment(comparison, event, options, job)
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget gate: error: {error}\n")
        say("error", str(error))
        return _CANNOT_JUDGE
    return comparison.standing.exit_code


def compared(options: Options, event: Event, environ: Mapping[str, str]) -> Comparison:
    """What the gate says of the legs together. Raises FlopBudgetError."""
    acceptances, complaints = _acceptances(event, options.label, environ)
    if options.legs:
        legs = {leg.name: leg for leg in map(read_leg, options.legs)}
        comparison = merge(
            {name: judged(leg, acceptances) for name, leg in legs.items()},
            missing=sorted(set(options.expected) - legs.keys()),
        )
    else:
        comparison = _of_run(acceptances, options.expected, environ)
    return replace(comparison, notes=(*comparison.notes, *complaints))


def read_leg(path: Path) -> Leg:
    """The leg in a file of this job. Raises ReportError."""
    try:
        with path.open("rb") as file:
            content = file.read(LEG_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{path}: cannot read: {error.strerror}") from error
    return decode_leg(content, where=str(path))


def _of_run(
    acceptances: Sequence[Acceptance], expected: Sequence[str], environ: Mapping[str, str]
) -> Comparison:
    comparison = judged_run(
        client_of(environ),
        environ.get("GITHUB_REPOSITORY", ""),
        run_id_of(environ),
        acceptances,
        expected=expected,
        warn=lambda text: say("warning", text),
    )
    if comparison is None:
        raise GitHubError("the run left no legs behind; did the measuring jobs run to their end?")
    return comparison


def _acceptances(
    event: Event, label: str, environ: Mapping[str, str]
) -> tuple[tuple[Acceptance, ...], tuple[str, ...]]:
    """The lines of the pull request that count, and complaints about unreadable ones.

    A pull request that GitHub does not show is taken as the event shows it, which may be out
    of date. That of a merge group stands in no event: without it nothing is accepted there.
    Raises GitHubError.
    """
    number = event.pull_number if isinstance(event, MergeGroup) else None
    number = event.number if isinstance(event, PullRequest) else number
    if number is None:
        return (), ()
    payload = read_payload(environ) if isinstance(event, PullRequest) else None
    try:
        approval = read_approval(
            client_of(environ),
            environ.get("GITHUB_REPOSITORY", ""),
            number,
            label=label,
            payload=payload,
        )
    except GitHubError as error:
        say("warning", f"what #{number} accepts cannot be read as it is now: {error}")
        if payload is None:
            return (), ()
        approval = approval_in(payload, label=label)
    if approval.is_of_event:
        say(
            "notice",
            f"the token may not read pull requests (permissions: pull-requests: read): what "
            f"#{number} accepts is taken from the event, as it was when that was made",
        )
    return acceptances_of(approval)


def _prepare_comment(comparison: Comparison, event: Event, options: Options, job: Job) -> None:
    """Write the comment, and say by outputs where, and whether it may be a new one.

    Raises GitHubError.
    """
    path = options.comment_to
    if path is None or options.when is When.NEVER or not isinstance(event, PullRequest):
        return
    if event.read_only_for:
        say(
            "notice",
            f"the token of {event.read_only_for} cannot comment: the second workflow does, "
            "where there is one (docs/forks.md)",
        )
        return
    body = render_comment(
        comparison,
        marker_id=options.marker_id,
        link=_address_of_run(os.environ),
        label=options.label,
    )
    path.write_text(body, encoding="utf-8")
    job.set_output("comment-path", str(path.resolve()))
    is_worth = is_worth_posting(comparison, options.when)
    job.set_output("comment-mode", "post" if is_worth else "only-update")


def _address_of_run(environ: Mapping[str, str]) -> str:
    """The page of this run, with its summary, for people. Raises GitHubError."""
    server = environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{run_id_of(environ)}"


def _locator(options: Options, environ: Mapping[str, str]) -> Callable[[str], str]:
    if options.legs:
        workspace = environ.get("GITHUB_WORKSPACE")
        return lambda file: located(file, Path.cwd(), workspace)
    # There is no checkout in which a file could be looked for.
    return lambda file: posixpath.normpath(posixpath.join(options.root, file))


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="gate", allow_abbrev=False)
    parser.add_argument("legs", nargs="*", type=Path)
    parser.add_argument("--expect", default="")
    parser.add_argument("--label", default=LABEL)
    parser.add_argument("--root", default="")
    parser.add_argument("--comment-to", type=Path)
    parser.add_argument("--id", default="default")
    parser.add_argument("--when", default="always")
    args = parser.parse_args(argv)
    return Options(
        legs=tuple(args.legs),
        expected=parse_leg_names(args.expect),
        label=args.label or LABEL,
        root=args.root,
        comment_to=args.comment_to,
        marker_id=check_leg_name(args.id),
        when=parse_when(args.when),
    )


if __name__ == "__main__":
    raise SystemExit(main())
