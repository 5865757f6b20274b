"""What a job of GitHub Actions shows of a comparison: annotations, the summary, outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.render.github import Annotation, annotate, outputs
from pytest_flopbudget.render.markdown import SUMMARY_BYTES, render_markdown


class Job(Protocol):
    """Where a step writes for the runner."""

    def annotate(self, annotation: Annotation) -> None:
        """A line beside the code."""

    def append_summary(self, text: str) -> None:
        """Markdown on the page of the run."""

    def set_output(self, name: str, value: str) -> None:
        """A value for later steps."""


class InstalledJob:
    """A job in which `github-action-utils` is installed. Raises FlopBudgetError where it is not."""

    def __init__(self, environ: Mapping[str, str], *, what: str) -> None:
        try:
            import github_action_utils
        except ImportError as error:
            raise FlopBudgetError(
                f'{what} needs one library more: pip install "pytest-flopbudget[github]"'
            ) from error
        self._library: Any = github_action_utils
        self._environ = environ

    def annotate(self, annotation: Annotation) -> None:
        """A line beside the code."""
        say = self._library.error if annotation.is_error else self._library.warning
        # No title: the library would put it before the file, and the message needs none.
        say(annotation.message, file=annotation.file or None, line=annotation.line or None)

    def append_summary(self, text: str) -> None:
        """Markdown on the page of the run; nothing outside of a job."""
        if self._environ.get("GITHUB_STEP_SUMMARY"):
            self._library.append_job_summary(text)

    def set_output(self, name: str, value: str) -> None:
        """A value for later steps; nothing outside of a job."""
        if self._environ.get("GITHUB_OUTPUT"):
            self._library.set_output(name, value)


def show(
    comparison: Comparison, job: Job, *, locate: Callable[[str], str], label: str = ""
) -> None:
    """Tell the runner what the comparison says.

    locate: the path from the root of the repository, for one from the root of the run.
    label: what lets the acceptances of a pull request count; empty where they come by --accept.
    """
    for annotation in annotate(comparison, locate=locate, label=label):
        job.annotate(annotation)
    # One byte less: the library ends what it writes with a line end, which counts.
    job.append_summary(render_markdown(comparison, max_bytes=SUMMARY_BYTES - 1, label=label))
    for name, value in outputs(comparison).items():
        job.set_output(name, value)


def located(file: str, here: Path, workspace: str | None) -> str:
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
