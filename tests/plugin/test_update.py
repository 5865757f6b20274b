"""--flopbudget-update: whole runs that move their budgets, and runs that must not."""

from __future__ import annotations

import pytest

from pytest_flopbudget.store.files import read_report

from .conftest import FLOPS, HEADER, MACS, Ran, Suite

WHERE = "pyproject.toml: tool.flopbudget.budgets"
SETTINGS = """\
[tool.flopbudget.budgets.product] # of two matrices
macs = "90 kMAC" # too tight
flops = { max = 300_000 }
"""
BODY = """
@pytest.mark.flop_budget("product")
def test_named():
    product()

@pytest.mark.flop_budget(macs="1 kMAC")
def test_inline():
    product()
"""


@pytest.fixture
def budgeted(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite with one budget too tight, one too loose, and one in a marker."""
    monkeypatch.delenv("CI", raising=False)
    suite.settings(SETTINGS)
    suite.write(BODY)
    return suite


def settings_text(suite: Suite) -> str:
    return (suite.pytester.path / "pyproject.toml").read_text("utf-8")


def said(ran: Ran) -> list[str]:
    """The lines of the section that tells the update."""
    lines = ran.result.stdout.lines
    start = next(n for n, line in enumerate(lines) if " budget update " in line)
    end = next(n for n, line in enumerate(lines[start + 1 :]) if line.startswith(("=", "!")))
    return lines[start + 1 : start + 1 + end]


def baseline_of(suite: Suite) -> dict[str, dict[str, str]]:
    """By test, in the baseline: outcome of every verdict by its metric."""
    report = read_report(suite.pytester.path / ".flopbudget" / "baseline.json")
    return {
        test.id.rpartition("::")[2]: {v.metric: v.outcome.value for v in test.verdicts}
        for test in report.tests
    }


def test_budgets_become_what_was_measured_and_every_change_is_said(budgeted: Suite) -> None:
    ran = budgeted.run("--flopbudget-update", report=False)
    assert (ran.code, ran.outcomes) == (0, {"passed": 2})
    assert settings_text(budgeted) == SETTINGS.replace('"90 kMAC"', '"98.304 kMAC"').replace(
        "300_000", f"{FLOPS:_}"
    )
    assert MACS == 98_304
    macs, flops, inline, baseline = said(ran)
    change = '"90 kMAC" -> "98.304 kMAC" (loosened; test_named measured 98.3 kMAC)'
    assert macs == f"{WHERE}.product.macs: {change}"
    change = "300_000 -> 196_608 (tightened; test_named measured 196.6 kFLOP)"
    assert flops == f"{WHERE}.product.flops.max: {change}"
    advice = 'write "98.304 kMAC" as max (test_inline measured 98.3 kMAC)'
    assert inline == f"test_it.py::test_inline: @flop_budget.macs: not rewritten; {advice}"
    assert baseline == ".flopbudget/baseline.json: 2 of 2 tests as measured now"
    assert baseline_of(budgeted) == {
        "test_named": {"macs": "within", "flops": "within"},
        "test_inline": {"macs": "over"},
    }


def test_an_updated_suite_passes_and_a_second_update_changes_no_budget(budgeted: Suite) -> None:
    budgeted.run("--flopbudget-update", report=False)
    after = settings_text(budgeted)
    assert budgeted.run("-k", "test_named", report=False).code == 0
    again = budgeted.run("--flopbudget-update", report=False)
    assert said(again)[0] == "no budget is changed"
    assert settings_text(budgeted) == after


def test_the_controller_of_xdist_updates_once(budgeted: Suite) -> None:
    ran = budgeted.run_apart("--flopbudget-update", "-n2", report=False)
    assert ran.code == 0
    assert ran.text.count("(loosened; test_named measured 98.3 kMAC)") == 1
    assert '"98.304 kMAC" # too tight' in settings_text(budgeted)
    assert baseline_of(budgeted).keys() == {"test_named", "test_inline"}


def test_a_whole_run_drops_a_test_that_is_gone_and_says_so(budgeted: Suite) -> None:
    budgeted.run("--flopbudget-update", report=False)
    budgeted.write(BODY.replace("test_inline", "test_renamed"))
    whole = budgeted.run("--flopbudget-update", report=False)
    gone = "dropped test_it.py::test_inline, which is no longer there"
    assert said(whole)[-1] == f".flopbudget/baseline.json: {gone}"
    assert baseline_of(budgeted).keys() == {"test_named", "test_renamed"}


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        (("-k", "not elsewhere"), ""),
        (("--ignore=sub",), ""),
        (("test_it.py",), ""),
        (("sub",), ""),
        ((), "def test_broken():\n    assert False\n"),
    ],
    ids=["-k", "--ignore", "file", "folder", "a failure"],
)
def test_a_run_that_is_not_whole_or_not_clean_drops_nothing(
    budgeted: Suite, options: tuple[str, ...], extra: str
) -> None:
    folder = budgeted.pytester.mkdir("sub")
    (folder / "test_sub.py").write_text(HEADER + BODY.replace("_named", "_elsewhere"), "utf-8")
    budgeted.run("--flopbudget-update", report=False)
    everything = {"test_named", "test_inline", "test_elsewhere"}
    assert baseline_of(budgeted).keys() == everything
    budgeted.write(BODY.replace("test_inline", "test_renamed") + extra)
    ran = budgeted.run("--flopbudget-update", *options, report=False)
    assert "dropped" not in ran.text
    read = read_report(budgeted.pytester.path / ".flopbudget" / "baseline.json")
    assert "test_it.py::test_inline" in {test.id for test in read.tests}


def test_a_failed_test_fails_the_run_and_moves_nothing(budgeted: Suite) -> None:
    budgeted.write(BODY.replace("    product()\n", "    product()\n    assert False\n"))
    ran = budgeted.run("--flopbudget-update", report=False)
    assert ran.code == 1
    assert said(ran) == ["nothing was measured, so that no budget and no baseline is changed"]
    assert settings_text(budgeted) == SETTINGS
    assert not (budgeted.pytester.path / ".flopbudget").exists()


def test_an_interrupted_run_changes_nothing(budgeted: Suite) -> None:
    budgeted.write("def test_stop():\n    raise KeyboardInterrupt\n", name="test_jt")
    ran = budgeted.run_apart("--flopbudget-update", report=False)
    assert ran.code == 2
    assert said(ran) == ["the run did not come to its end, so that nothing is changed"]
    assert settings_text(budgeted) == SETTINGS


def test_a_file_changed_by_the_tests_is_not_overwritten(budgeted: Suite) -> None:
    budgeted.write(
        BODY + "\n\ndef test_edit():\n"
        "    import pathlib\n"
        "    pathlib.Path('pyproject.toml').write_text('[tool.flopbudget]\\n')\n"
    )
    ran = budgeted.run("--flopbudget-update", report=False)
    assert ran.code == 4
    assert said(ran) == [
        f"ERROR: {WHERE}.product.macs: was changed while the tests ran; run them again"
    ]
    assert settings_text(budgeted) == "[tool.flopbudget]\n"


@pytest.mark.parametrize(
    ("environment", "options", "complaint"),
    [
        ("true", (), "--flopbudget-update is refused where CI is set"),
        ("", ("--flopbudget=off",), "--flopbudget-update needs measurements"),
    ],
    ids=["CI", "off"],
)
def test_an_update_that_must_not_be_is_refused_before_any_test(
    budgeted: Suite,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    options: tuple[str, ...],
    complaint: str,
) -> None:
    monkeypatch.setenv("CI", environment)
    ran = budgeted.run("--flopbudget-update", *options, report=False)
    assert ran.code == 4
    assert len(ran.errors) == 1
    assert ran.errors[0].startswith(complaint)
    assert "collected" not in ran.text
    assert settings_text(budgeted) == SETTINGS
