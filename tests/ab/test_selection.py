"""Paths that only one side has are not asked of the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopbudget.ab.selection import arguments_without, missing_paths


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base/tests").mkdir(parents=True)
    (tmp_path / "base/tests/test_old.py").touch()
    return tmp_path / "base"


@pytest.fixture
def head(tmp_path: Path) -> Path:
    (tmp_path / "head/tests/perf").mkdir(parents=True)
    (tmp_path / "head/tests/test_old.py").touch()
    (tmp_path / "head/tests/test_new.py").touch()
    return tmp_path / "head"


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        # Without a path pytest runs all that it finds.
        (["-q"], ("-q",)),
        (["tests"], ("tests",)),
        (["-q", "tests/test_old.py", "tests/perf"], ("-q", "tests/test_old.py")),
        (["tests/perf", "-x"], ("-x", "--ignore-glob=*")),
        (["tests/test_new.py::test_one[a::b]"], ("--ignore-glob=*",)),
        # What neither has is for pytest to refuse, and so is a test that an old file lacks.
        (["tests/nowhere"], ("tests/nowhere",)),
        (["tests/test_old.py::test_new"], ("tests/test_old.py::test_new",)),
        # The value of an option is no path to run, though there may be one of that name.
        (["-k", "tests/perf"], ("-k", "tests/perf")),
        (["--cov", "tests/perf", "tests"], ("--cov", "tests/perf", "tests")),
        (["--cov=tests", "tests/perf"], ("--cov=tests", "--ignore-glob=*")),
    ],
)
def test_the_base_is_asked_for_what_it_has(
    arguments: list[str], kept: tuple[str, ...], base: Path, head: Path
) -> None:
    assert arguments_without(arguments, missing_paths(arguments, base, head)) == kept


def test_what_is_missing_is_named(base: Path, head: Path) -> None:
    asked = ["tests/perf", "tests/test_old.py", "tests/test_new.py"]
    assert missing_paths(asked, base, head) == ("tests/perf", "tests/test_new.py")
    assert missing_paths(asked, head, base) == ()
