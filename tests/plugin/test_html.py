"""--flopbudget-html: the page of a run, written beside the report or alone."""

from __future__ import annotations

import pytest

from .conftest import Suite

BODY = """
@pytest.mark.flop_budget(macs="1 kMAC")
def test_wide():
    product()

@pytest.mark.flop_budget(macs="1 MMAC")
def test_fine():
    product()
"""


@pytest.mark.parametrize("option", [(), ("-n2", "-pxdist")], ids=["alone", "xdist"])
def test_the_page_of_a_run_is_written(suite: Suite, option: tuple[str, ...]) -> None:
    suite.write(BODY)
    path = suite.pytester.path / "pages" / "run.html"
    start = suite.run_apart if option else suite.run
    ran = start(f"--flopbudget-html={path}", *option, report=False)
    assert ran.outcomes == {"passed": 1, "failed": 1}
    page = path.read_text("utf-8")
    assert "1 over budget \N{MIDDLE DOT} 1 within budget" in page
    assert "test_it.py::test_wide" in page
    assert "test_it.py::test_fine" in page
    assert "torch 2." in page
    assert [entry.name for entry in path.parent.iterdir()] == ["run.html"]


def test_a_suite_without_budgets_gets_a_page_that_says_so(suite: Suite) -> None:
    suite.write("def test_plain(): pass")
    path = suite.pytester.path / "run.html"
    ran = suite.run(f"--flopbudget-html={path}", report=False)
    assert ran.code == 0
    assert "nothing measured" in path.read_text("utf-8")


def test_a_page_that_cannot_be_written_fails_the_run_by_name(suite: Suite) -> None:
    suite.write(BODY)
    folder = suite.pytester.mkdir("taken")
    ran = suite.run(f"--flopbudget-html={folder}")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "cannot write the report: there is something that is no file" in ran.words
    assert ran.endings == {"test_wide": "over budget", "test_fine": "passed"}
