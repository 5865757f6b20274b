"""Stands for actions/upload-artifact, and keeps what was uploaded.

Give `Uploads().upload` to a `Runner` as the stub of "actions/upload-artifact".
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .composite import Outcome, Use

INPUTS = {
    "archive",
    "compression-level",
    "if-no-files-found",
    "include-hidden-files",
    "name",
    "overwrite",
    "path",
    "retention-days",
}
REFUSED_IN_A_NAME = re.compile(r'["*/:<>?\\|\r\n]')


@dataclass(frozen=True)
class Artifact:
    id: int
    name: str
    archive: bytes
    """The zip file."""
    retention_days: str
    """As it was asked for; 0 for as long as the repository says."""

    def members(self) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@dataclass
class Uploads:
    """The artifacts of one workflow run; all its jobs share it."""

    artifacts: list[Artifact] = field(default_factory=list)

    def upload(self, use: Use) -> Outcome:
        assert use.inputs.keys() <= INPUTS, f"unknown inputs {use.inputs.keys() - INPUTS}"
        name = use.inputs.get("name", "artifact")
        if REFUSED_IN_A_NAME.search(name):
            return _failed(f"The artifact name is not valid: {name}.")
        takes_hidden = use.inputs.get("include-hidden-files", "false") == "true"
        files = _found(use.workspace, use.inputs["path"], takes_hidden=takes_hidden)
        if not files:
            return _nothing_found(use)
        same = [artifact for artifact in self.artifacts if artifact.name == name]
        if same and use.inputs.get("overwrite", "false") != "true":
            return _failed(
                "Failed to CreateArtifact: Received non-retryable error: (409) Conflict: an "
                "artifact with this name already exists on the workflow run"
            )
        self.artifacts = [artifact for artifact in self.artifacts if artifact not in same]
        number = max((artifact.id for artifact in self.artifacts), default=0) + 1
        retention_days = use.inputs.get("retention-days", "0")
        self.artifacts.append(Artifact(number, name, _archive(files), retention_days))
        return Outcome(outputs={"artifact-id": str(number)}, log=f"Artifact {name} uploaded\n")


def _failed(message: str) -> Outcome:
    return Outcome(log=f"::error::{message}\n", is_failed=True)


def _nothing_found(use: Use) -> Outcome:
    message = f"No files were found with the provided path: {use.inputs['path']}."
    do = use.inputs.get("if-no-files-found", "warn")
    if do == "error":
        return _failed(message)
    assert do in {"warn", "ignore"}, f"if-no-files-found: {do}"
    return Outcome(log=f"::warning::{message}\n" if do == "warn" else f"{message}\n")


def _found(workspace: Path, paths: str, *, takes_hidden: bool) -> dict[str, Path]:
    """Each file by its name in the archive, which is relative to what all paths share."""
    starts = [workspace / line.strip() for line in paths.splitlines() if line.strip()]
    assert not re.search(r"[*?\[!]", paths), "this stub knows no patterns"
    # A lone directory is the archive's root, as is the directory of a lone file.
    roots = [start if start.is_dir() else start.parent for start in starts]
    root = Path(os.path.commonpath(roots))
    files = [file for start in starts for file in _below(start, takes_hidden=takes_hidden)]
    return {file.relative_to(root).as_posix(): file for file in files}


def _below(path: Path, *, takes_hidden: bool) -> Iterator[Path]:
    # Hidden is what is met on the way down; directories above the given path do not count.
    if path.name.startswith(".") and not takes_hidden:
        return
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            yield from _below(inner, takes_hidden=takes_hidden)
    elif path.exists():
        yield path


def _archive(files: dict[str, Path]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, file in files.items():
            writer.write(file, name)
    return archive.getvalue()
