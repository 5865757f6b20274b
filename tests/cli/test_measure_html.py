"""`flopbudget measure --html`: one measurement as a page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_flopbudget.cli.main import main

CODE = """
import torch

def product():
    # [2, 3] by [3, 4]: 2 * 3 * 4 = 24 MAC
    return torch.mm(torch.ones(2, 3), torch.ones(3, 4))
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # The command adds the file's folder, which the tests after this one must not see.
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "measured_as_a_page.py"
    file.write_text(CODE, "utf-8")
    return f"{file}:product"


def test_the_page_is_written_beside_the_table(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    assert main(["measure", target, "--html", str(path)]) == 0
    assert "24 MAC" in capsys.readouterr().out
    page = path.read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "24 MAC" in page
    assert target in page


def test_page_and_report_are_both_written_where_both_are_asked_for(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, report = tmp_path / "page.html", tmp_path / "report.json"
    assert main(["measure", target, "--html", str(page), "--json", str(report)]) == 0
    assert page.stat().st_size
    assert report.stat().st_size


def test_a_page_that_cannot_be_written_is_one_line(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", target, "--html", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "cannot write the report: there is something that is no file" in error
    assert len(error.splitlines()) == 1
