"""Workflow commands without a library, held to what the library writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopbudget.github.commands import PlainJob, say
from pytest_flopbudget.github.job import InstalledJob, located
from pytest_flopbudget.render.github import Annotation

from .composite import assignments

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "annotation",
    [
        Annotation(is_error=True, message="50 % more", file="tests/test_a.py", line=3),
        Annotation(is_error=False, message="a, b: c", file="tests/test_a.py"),
        Annotation(is_error=True, message="about no file"),
    ],
)
def test_an_annotation_is_what_the_library_writes(annotation: Annotation, capsys: Capture) -> None:
    PlainJob({}).annotate(annotation)
    ours = capsys.readouterr().out
    InstalledJob({}, what="this").annotate(annotation)
    assert ours == capsys.readouterr().out


def test_a_file_s_name_stays_a_property(capsys: Capture) -> None:
    PlainJob({}).annotate(Annotation(is_error=True, message="m", file="a,line=9:b%.py", line=3))
    assert capsys.readouterr().out == "::error file=a%2Cline=9%3Ab%25.py,line=3::m\n"


def test_a_message_stays_on_its_line_and_is_cut(capsys: Capture) -> None:
    say("warning", "a%0A\r\n::error::b" + "c" * 1000)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("::warning title=Compute budget::a%250A ::error::bccc")
    assert len(line) < 700


def test_an_output_cannot_become_another(tmp_path: Path) -> None:
    file = tmp_path / "output"
    job = PlainJob({"GITHUB_OUTPUT": str(file)})
    job.set_output("a", "1\nb=2\nb<<EOF\n3\nEOF")
    job.set_output("c", "4")
    assert assignments(file) == {"a": "1\nb=2\nb<<EOF\n3\nEOF", "c": "4"}


@pytest.mark.parametrize("job", [PlainJob({}), InstalledJob({}, what="this")])
def test_outside_of_a_job_nothing_is_written(
    job: PlainJob | InstalledJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job.append_summary("text")
    job.set_output("a", "1")
    assert list(tmp_path.iterdir()) == []


def test_summaries_are_added_to_each_other(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    job = PlainJob({"GITHUB_STEP_SUMMARY": str(file)})
    job.append_summary("a\n")
    job.append_summary("ä\n")
    assert file.read_text(encoding="utf-8") == "a\nä\n"


def test_a_file_is_looked_for_up_to_the_workspace(tmp_path: Path) -> None:
    root, here = tmp_path / "repo", tmp_path / "repo" / "models" / "sub"
    here.mkdir(parents=True)
    (root / "models" / "test_a.py").touch()
    (tmp_path / "test_b.py").touch()
    assert located("test_a.py", here, str(root)) == "models/test_a.py"
    assert located("test_b.py", here, str(root)) == "test_b.py"
