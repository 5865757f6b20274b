"""A baseline that is committed beside the code, as the base has it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pytest_flopbudget.ab.git import Git
from pytest_flopbudget.core.codec import report_from_json
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.settings import load_settings
from pytest_flopbudget.github.baselines.baseline import Baseline
from pytest_flopbudget.github.rest import GitHubError


def read_baseline(git: Git, sha: str, prefix: str) -> Baseline:
    """The report that `baseline` of the base's own settings names.

    prefix: the working directory in the repository, with a slash at its end, or empty.
    Neither the file nor its name is taken from the head, which could put in what suits it.
    Raises GitHubError: the file is no JSON. Raises ReportError: it is no report.
    """
    for folder in _folders(prefix):
        settings = _content(git, sha, _joined(folder, "pyproject.toml"))
        if settings is None:
            continue
        try:
            path = _joined(folder, _baseline_path(settings))
        except SettingsError as error:
            return Baseline(missing=f"the settings of the base {sha[:7]} cannot be read: {error}")
        content = _content(git, sha, path)
        if content is None:
            return Baseline(missing=f"{path} is not in the base commit {sha[:7]}")
        where = f"{sha[:7]}:{path}"
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise GitHubError(
                f"{where}: not JSON: write it with pytest --flopbudget-update"
            ) from error
        return Baseline(report=report_from_json(data, where=where))
    return Baseline(missing=f"the base commit {sha[:7]} has no pyproject.toml")


def _folders(prefix: str) -> Iterator[PurePosixPath]:
    """The working directory and those above it."""
    here = PurePosixPath(prefix)
    yield from (here, *here.parents) if here.parts else (here,)


def _joined(folder: PurePosixPath, path: str) -> str:
    return str(folder / path)


def _baseline_path(settings: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pyproject.toml"
        file.write_text(settings, encoding="utf-8")
        return load_settings(file, display="pyproject.toml").baseline


def _content(git: Git, sha: str, path: str) -> str | None:
    """A file of the commit; None where it has none."""
    if not git("ls-tree", "--full-tree", "--name-only", sha, "--", path):
        return None
    return git("cat-file", "blob", f"{sha}:{path}")
