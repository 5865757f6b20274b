"""Reports on disk: written whole or not at all, and read with suspicion."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from pytest_flopbudget.core.codec import report_from_json, report_to_json
from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.report import Report

MAX_BYTES: Final = 256 * 1024 * 1024
"""No run of ours comes near it; what is larger is some other file."""


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON, as `write_text` does.

    Raises ReportError: the file cannot be written, or a number is not finite.
    """
    write_text(path, json.dumps(report_to_json(report), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a report in any form, making the folders above it.

    A reader sees the old file or the new one, never a part of one.
    Raises ReportError: the file cannot be written.
    """
    try:
        is_taken = path.exists() and not path.is_file()
        if not is_taken:
            _make_folder(path.parent)
            replace_text(path, text)
    except OSError as error:
        raise ReportError(f"{path}: cannot write the report: {_reason(error)}") from error
    if is_taken:
        # A rename would put a file in the place of a folder or a device, such as /dev/stdout.
        raise ReportError(f"{path}: cannot write the report: there is something that is no file")


def read_report(path: Path) -> Report:
    """The report in the file.

    Raises ReportError, naming the file: unreadable, not JSON, malformed, of a newer schema.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{path}: cannot read the report: {_reason(error)}") from error
    if len(raw) > MAX_BYTES:
        raise ReportError(f"{path}: not a report: larger than {MAX_BYTES >> 20} MiB")
    try:
        data = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: not a report: not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not a report: not JSON: {error}") from error
    return report_from_json(data, where=str(path))


def replace_text(path: Path, text: str) -> None:
    """Write the whole file at once; one that was there keeps its permissions.

    Raises OSError, with nothing changed and nothing left behind.
    """
    # In the same folder, because a rename is atomic only within one file system.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, part)
        part.replace(path)
    except BaseException:
        # Also on Ctrl-C: nothing half-written is left behind.
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"{folder}: cannot make the folder: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
