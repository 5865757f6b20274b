"""A report file is whole, or it is an error that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.store import files
from pytest_flopbudget.store.files import read_report, write_report

REPORT = Report(versions={"torch": "2.13.0"}, notes=("two threads: naïve",))


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "report.json"
    write_report(REPORT, path)
    assert read_report(path) == REPORT
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_a_second_report_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(Report(notes=("a longer note " * 100,)), path)
    write_report(REPORT, path)
    assert read_report(path) == REPORT


def test_others_may_read_a_report_as_they_may_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_report(REPORT, tmp_path / "report.json")
    assert (tmp_path / "report.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_write_that_is_cut_short_leaves_the_old_report_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_report(REPORT, path)

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(Report(), path)
    assert read_report(path) == REPORT
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "report.json"
    with pytest.raises(ReportError) as caught:
        write_report(REPORT, path)
    assert str(caught.value) == f"{path}: cannot write the report: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "report.json"
    with pytest.raises(ReportError) as caught:
        write_report(REPORT, path)
    assert str(caught.value) == f"{path.parent}: cannot make the folder: File exists"


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is something that is no file"):
        write_report(REPORT, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.json"
    with pytest.raises(ReportError) as caught:
        read_report(path)
    assert str(caught.value) == f"{path}: cannot read the report: No such file or directory"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a report: not JSON: "),
        (b'{"schema_version": 1, ', "not a report: not JSON: "),
        (b"[" * 100_000, "not a report: not JSON: "),
        (b"9" * 5000, "not a report: not JSON: "),
        (b'{"schema_version": "\xff"}', "not a report: not UTF-8 at byte 20"),
        (b"[]", "not a report of pytest-flopbudget"),
        (b'{"schema_version": 7}', "written with report schema 7"),
    ],
    ids=["empty", "half", "deep", "endless number", "latin-1", "a list", "newer"],
)
def test_an_unreadable_file_is_one_line_that_names_it(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        read_report(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spare", "is_read"), [(0, True), (-1, False)])
def test_a_file_above_the_size_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int, is_read: bool
) -> None:
    path = tmp_path / "report.json"
    write_report(REPORT, path)
    monkeypatch.setattr(files, "MAX_BYTES", path.stat().st_size + spare)
    if is_read:
        assert read_report(path) == REPORT
    else:
        with pytest.raises(ReportError, match="not a report: larger than"):
            read_report(path)


def test_a_test_id_that_is_no_text_in_utf8_survives(tmp_path: Path) -> None:
    # pytest hands on undecodable bytes of a file name as lone surrogates.
    report = Report(notes=("test_\udcff.py",))
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    assert json.loads((tmp_path / "report.json").read_bytes())["notes"] == ["test_\udcff.py"]
