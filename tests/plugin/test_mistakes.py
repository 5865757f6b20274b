"""A user's mistake is a usage error of one line, before any test runs."""

from __future__ import annotations

import pytest

from .conftest import Suite

TESTS = "def test_any(): raise AssertionError('a test was run')\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("[tool.flopbudget\n", ("line 1",)),
        ("[tool.flopbudget]\nbudget = 1\n", ("tool.flopbudget", "'budgets'")),
        (
            "[tool.flopbudget.budgets.a]\nflop = 1\n",
            ("tool.flopbudget.budgets.a.flop", "'flops'"),
        ),
        (
            "[tool.flopbudget.budgets.a]\nflops = '3.7 GMAC'\n",
            ("tool.flopbudget.budgets.a.flops", "3.7 GMAC"),
        ),
        (
            (
                "[tool.flopbudget.budgets.a]\nops = 1\n"
                "[[tool.flopbudget.match]]\ntests = '*'\nbudget = 'b'\n"
            ),
            ("tool.flopbudget.match[0].budget", "known are a"),
        ),
        (
            (
                "[tool.flopbudget.machines.ci]\ncpu = '*'\n"
                "[tool.flopbudget.budgets.a]\nlatency = { max = '1 s', on = 'cl' }\n"
            ),
            ("tool.flopbudget.budgets.a.latency.on", "known are ci"),
        ),
        ("[tool.flopbudget]\nstrict = 'yes'\n", ("tool.flopbudget.strict", "true or false")),
    ],
)
def test_a_mistake_in_the_settings_is_one_line(
    suite: Suite, settings: str, words: tuple[str, ...]
) -> None:
    suite.settings(settings)
    suite.write(TESTS, header="")
    suite.path.write_text("an earlier report", "utf-8")
    ran = suite.run()
    assert ran.code == 4
    assert len(ran.errors) == 1, ran.text
    for word in ("pyproject.toml", *words):
        assert word in ran.errors[0]
    assert suite.path.read_text("utf-8") == "an earlier report"


MARKERS = """
[tool.flopbudget.budgets.resnet18]
flops = 1
"""
MISTAKEN = """
def test_ok(): raise AssertionError("a test was run")
@pytest.mark.flop_budget("resnet81")
def test_budget(): pass
@pytest.mark.flop_budget(flop=1)
def test_metric(): pass
@pytest.mark.flop_budget(flops="3.7 GMAC")
def test_unit(): pass
@pytest.mark.flop_budget(flops="3.7 GFLOPS")
def test_rate(): pass
@pytest.mark.flop_budget(latency={"max": 1, "on": "nowhere"})
def test_machine(): pass
@pytest.mark.flop_budget(flops={"maximum": 1})
def test_key(): pass
@pytest.mark.latency_budget()
def test_short(): pass
@pytest.mark.flop_budget()
def test_empty(): pass
@pytest.mark.flop_budget(flops="1 GFLOPP")
def test_left_out(): pass
"""


def test_mistakes_in_markers_are_all_told_a_line_each(suite: Suite) -> None:
    suite.settings(MARKERS)
    suite.write(MISTAKEN)
    ran = suite.run("--deselect", "test_it.py::test_left_out")
    assert ran.code == 4
    assert [line.partition(": @")[0] for line in ran.errors] == [
        f"test_it.py::test_{name}"
        for name in ("budget", "metric", "unit", "rate", "machine", "key", "short", "empty")
    ] + ["test_it.py::test_left_out"]
    assert "'resnet18'" in ran.errors[0]
    assert "'flops'" in ran.errors[1]
    assert "2 FLOP" in ran.errors[2] or "twice" in ran.errors[2] or "two" in ran.errors[2]
    assert "rate" in ran.errors[3]
    assert "INTERNALERROR" not in ran.text
    assert not suite.path.exists()


def test_under_xdist_mistakes_end_the_run_in_the_same_words(suite: Suite) -> None:
    suite.settings(MARKERS)
    suite.write(MISTAKEN, header="import pytest\n")
    alone = suite.run()
    spread = suite.run_apart("-n2")
    assert spread.code == 4
    assert spread.errors == alone.errors
    assert "INTERNALERROR" not in spread.text
    assert not suite.path.exists()
    suite.settings("[tool.flopbudget]\nbudget = 1\n")
    settings = suite.run_apart("-n2")
    assert settings.code == 4
    assert len(settings.errors) == 1
