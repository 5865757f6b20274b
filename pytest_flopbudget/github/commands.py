"""What a step tells the runner, with the standard library alone.

For the jobs that install nothing; where the project is installed, `job` has the same by the
library that the measuring stage depends on.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pytest_flopbudget.render.github import Annotation
from pytest_flopbudget.render.words import clean, cut

_TITLE: Final = "Compute budget"
_LONGEST_MESSAGE: Final = 600
_OF_A_MESSAGE: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_OF_A_PROPERTY: Final = str.maketrans(
    {"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"}
)


def say(level: str, text: str) -> None:
    """An annotation of the run. What it says may be by others, and stays within its line.

    level: `error`, `warning` or `notice`.
    """
    _command(level, {"title": _TITLE}, cut(clean(text), _LONGEST_MESSAGE))


class PlainJob:
    """A job of GitHub Actions with nothing installed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def annotate(self, annotation: Annotation) -> None:
        """A line beside the code, or beside nothing where it is about no file."""
        properties = {"file": annotation.file} if annotation.file else {}
        if annotation.file and annotation.line:
            properties["line"] = str(annotation.line)
        level = "error" if annotation.is_error else "warning"
        _command(level, properties, annotation.message)

    def append_summary(self, text: str) -> None:
        """Markdown, added to the page of the run; nothing outside of a job."""
        _append(self._environ.get("GITHUB_STEP_SUMMARY"), text)

    def set_output(self, name: str, value: str) -> None:
        """A value for later steps; nothing outside of a job."""
        # Nobody can end a value whose end is not known beforehand.
        end = secrets.token_hex(16)
        _append(self._environ.get("GITHUB_OUTPUT"), f"{name}<<{end}\n{value}\n{end}\n")


def _command(level: str, properties: Mapping[str, str], message: str) -> None:
    given = ",".join(
        f"{name}={text.translate(_OF_A_PROPERTY)}" for name, text in properties.items()
    )
    sys.stdout.write(f"::{level} {given}::{message.translate(_OF_A_MESSAGE)}\n")
    sys.stdout.flush()


def _append(path: str | None, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
