"""The run of one side that is not timed by turns: pytest as the user starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from pytest_flopbudget.ab.side import Side, SideError

RAN_TO_ITS_END: Final = (0, 1)
"""pytest's exit codes for a run whose tests all ran, whether or not they passed."""
NEVER_TIMED: Final = ("--flopbudget-latency=never",)
_REPORTING: Final = ("--flopbudget=report",)
"""Behind the user's own, so that a budget fails no test: whoever has both sides judges them,
and the exit code tells of the tests' own failures alone."""


def run_pytest(
    side: Side, report: Path, *, options: Sequence[str] = (), output: IO[bytes] | None = None
) -> int:
    """The exit code of pytest on this side, which writes its report.

    options: of pytest, behind the user's.
    output: where what it prints goes; to our own output when None.
    Raises SideError where there is no such Python.
    """
    # What the tests print must keep its place among what is printed here.
    sys.stdout.flush()
    try:
        done = subprocess.run(  # noqa: S603 - the user's own tests, and no shell
            side.pytest([*options, *_REPORTING, f"--flopbudget-json={report}"]),
            cwd=side.directory,
            env=dict(side.environ),
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise SideError(f"the {side.name}: cannot run {side.python}: {error.strerror}") from error
    return done.returncode
