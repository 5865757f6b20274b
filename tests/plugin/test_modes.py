"""What report and off promise, and the other plugins that may be missing."""

from __future__ import annotations

import pytest

from .conftest import FLOPS, Suite

BODY = """
@pytest.mark.flop_budget(flops=1)
def test_over(): product()

@pytest.mark.flop_budget(region="r", flops=1, accuracy={"min": 1})
def test_regions(flopbudget):
    assert flopbudget(product, name="r").shape == (32, 64)
    with flopbudget.region("block"):
        product()
    flopbudget.record("accuracy", 0.5, better="higher")

@pytest.mark.memory_budget("1 B")
@pytest.mark.latency_budget("1 ns")
class TestCase(unittest.TestCase):
    def test_method(self): product()

def test_reads(flopbudget):
    flopbudget(product)
    assert flopbudget.flops == 196608
"""


def test_report_mode_shows_everything_and_fails_nothing(suite: Suite) -> None:
    suite.write(BODY)
    ran = suite.run("--flopbudget=report", "--strict-markers")
    assert (ran.code, ran.outcomes) == (0, {"passed": 4})
    assert set(ran.endings.values()) == {"passed"}
    assert ran.report.settings.mode == "report"
    assert ran.verdicts("test_over") == [("", "flops", "over")]
    assert dict(v[1:] for v in ran.verdicts("test_regions")) == {
        "flops": "over",
        "accuracy": "over",
    }
    assert any("test_over" in line and "over" in line for line in ran.summary)
    assert "a unittest-style test is not run again" in ran.words


EXPECTED_FAILURES = """
@pytest.mark.xfail
@pytest.mark.flop_budget(flops=1)
def test_over(): product()

@pytest.mark.xfail(strict=True)
@pytest.mark.flop_budget(flops=1)
def test_strictly_over(): product()

@pytest.mark.xfail(strict=True, raises=pytest.fail.Exception)
@pytest.mark.flop_budget(flops=1)
def test_over_as_said(): product()

@pytest.mark.xfail(strict=True, raises=ValueError)
@pytest.mark.flop_budget(flops=1)
def test_raises_nothing(): product()

@pytest.mark.xfail(strict=True)
@pytest.mark.flop_budget(flops=196608)
def test_within(): product()

@pytest.mark.flop_budget(flops=1)
def test_over_and_marked_late(request):
    request.node.add_marker(pytest.mark.xfail(strict=True))
    product()
"""


def test_an_expected_failure_that_is_only_over_budget_is_one_in_report_mode_too(
    suite: Suite,
) -> None:
    suite.write(EXPECTED_FAILURES)
    # What passes though it must not is no matter of budgets: it fails in every mode.
    endings = {
        "test_over": "xfailed",
        "test_strictly_over": "xfailed",
        "test_over_as_said": "xfailed",
        "test_within": "failed",
        "test_over_and_marked_late": "xfailed",
    }
    enforced = suite.run()
    assert enforced.endings == endings | {"test_raises_nothing": "over budget"}
    assert enforced.outcomes == {"xfailed": 4, "failed": 2}
    reported = suite.run("--flopbudget=report")
    assert reported.endings == endings | {"test_raises_nothing": "failed"}
    # pytest itself sees test_over pass, which one that is not strict may.
    assert reported.outcomes == {"xfailed": 3, "xpassed": 1, "failed": 2}
    assert reported.text.count("[XPASS(strict)]") == 4  # both, above and in the short summary


def test_the_mode_of_the_configuration_is_told_beside_that_of_the_run(suite: Suite) -> None:
    suite.write("@pytest.mark.flop_budget(flops=1)\ndef test_over(): product()\n")

    def modes(*args: str) -> tuple[str, str]:
        settings = suite.run(*args).report.settings
        return settings.configured_mode, settings.mode

    assert modes("--flopbudget=report") == ("enforce", "report")
    suite.settings('[tool.pytest.ini_options]\naddopts = "--flopbudget=report"\n')
    assert modes() == ("report", "report")
    assert modes("--flopbudget=enforce") == ("report", "enforce")
    suite.settings('[tool.pytest.ini_options]\naddopts = ["--flopbudget", "report"]\n')
    assert modes("--flopbudget=enforce") == ("report", "enforce")


def test_off_runs_the_code_and_measures_nothing(suite: Suite) -> None:
    suite.write(BODY)
    ran = suite.run("--flopbudget=off", "--strict-markers")
    assert (ran.code, ran.outcomes) == (0, {"passed": 3, "skipped": 1})
    assert (
        "flopbudget.flops is not measured: --flopbudget=off"
        in suite.run("--flopbudget=off", "-rs").words
    )
    assert not ran.summary
    assert not suite.path.exists()


def test_off_imports_no_torch_and_reads_no_settings(suite: Suite) -> None:
    suite.settings("[tool.flopbudget]\nno_such_key = 1\n")
    suite.write(
        """
        import pytest, sys
        @pytest.mark.flop_budget(flops="nonsense")
        def test_light(flopbudget):
            assert flopbudget(lambda: 3, name="x") == 3
            assert "torch" not in sys.modules
            assert not any(name.startswith("pytest_flopbudget.core") for name in sys.modules)
        """,
        header="",
    )
    ran = suite.run_apart("--flopbudget=off", "--strict-markers", report=False)
    assert (ran.code, ran.outcomes) == (0, {"passed": 1})


def test_a_suite_runs_without_the_plugin_and_without_the_terminal(suite: Suite) -> None:
    suite.pytester.makeconftest("def pytest_runtest_setup(item): pass\n")
    suite.write("@pytest.mark.flop_budget(flops=1)\ndef test_over(): product()\n")
    without = suite.run("-p", "no:flopbudget", "-W", "ignore", report=False)
    assert (without.code, without.outcomes["passed"]) == (0, 1)
    quiet = suite.run("-p", "no:terminal")
    assert quiet.code == 1
    assert quiet.endings == {"test_over": "over budget"}
    (suite.pytester.path / "report.json").unlink()
    suite.path.mkdir()
    unwritten = suite.run("-p", "no:terminal")
    assert unwritten.code == 4
    assert "cannot write the report" in unwritten.result.stderr.str()


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--fixtures"])
def test_a_look_at_the_suite_prints_no_table_and_leaves_an_earlier_report_alone(
    suite: Suite, option: str
) -> None:
    suite.write("@pytest.mark.flop_budget(flops=196608)\ndef test_it(): product()\n")
    suite.path.write_text("an earlier report", "utf-8")
    ran = suite.run(option)
    assert (ran.code, ran.summary) == (0, [])
    assert suite.path.read_text("utf-8") == "an earlier report"


def test_without_a_report_asked_for_the_table_is_printed_all_the_same(suite: Suite) -> None:
    suite.write("@pytest.mark.flop_budget(flops=196608)\ndef test_it(): product()\n")
    ran = suite.run(report=False)
    assert (ran.code, not suite.path.exists()) == (0, True)
    (line,) = ran.summary
    assert line.split() == [
        *("test_it", "flops", f"{FLOPS / 1000:.1f}", "kFLOP"),
        *("<=", f"{FLOPS / 1000:.1f}", "kFLOP", "100", "%", "within"),
    ]


def test_nothing_is_printed_when_nothing_was_measured(suite: Suite) -> None:
    suite.write(
        """
        def test_plain(): pass
        @pytest.mark.skip
        @pytest.mark.flop_budget(flops=1)
        def test_skipped(): pass
        @pytest.mark.flop_budget(flops=1, latency={"max": 1, "on": "m"})
        def test_skips(): pytest.skip("not here")
        """
    )
    suite.settings('[tool.flopbudget.machines.m]\ncpu = "no such"\n')
    ran = suite.run()
    assert (ran.code, ran.outcomes) == (0, {"passed": 1, "skipped": 2})
    assert ran.summary == []
    assert ran.endings == {"test_skipped": "skipped", "test_skips": "skipped"}


def test_every_line_of_the_summary_fits_in_80_columns(suite: Suite) -> None:
    long = "a_name_so_long_that_it_would_not_fit_beside_its_numbers_in_eighty_columns"
    suite.write(
        f"""
        @torch.library.custom_op("flopbudget_tests::{long}", mutates_args=())
        def op(x: torch.Tensor) -> torch.Tensor:
            return x + x

        @pytest.mark.parametrize("case", ["{long}" * 3])
        @pytest.mark.flop_budget(flops={{"max": 1, "severity": "warn"}}, strict=False)
        @pytest.mark.flop_budget(macs={{"ratio_to": "{long}", "max": 0.5}})
        @pytest.mark.flop_budget(region="{long}", {long}={{"min": 2}}, peak_memory=1)
        def test_{long}(case, flopbudget):
            flopbudget(lambda: (product(), op(torch.ones(3))))
            flopbudget(product, name="{long}2")
            try:
                with flopbudget.region("partial {long}"):
                    product()
                    raise ValueError
            except ValueError:
                pass

        @pytest.mark.flop_budget(macs={{"ratio_to": "{long}4", "max": 0.5}})
        def test_late_{long}(): product()
        """
    )
    for mode in ("enforce", "report"):
        ran = suite.run(f"--flopbudget={mode}")
        assert len(ran.summary) > 5
        assert {line for line in ran.summary if len(line) > 80} == set()
        words = " ".join(" ".join(ran.summary).split())
        assert f"no measurement is named '{long}4'" in words  # said by no test's failure
        assert f"its ratio to '{long}' was not judged" in words
