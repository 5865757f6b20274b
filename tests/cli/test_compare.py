"""`flopbudget compare`: exit codes, formats, and what a job of GitHub gets to see."""

from __future__ import annotations

import argparse
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_flopbudget.cli import compare
from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.measurement import Value
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.render.markdown import SUMMARY_BYTES
from pytest_flopbudget.store.files import write_report

from ..builders import BASE, HEAD, beside, budgeted, limit, measured, ratio, reported, timed

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
VARIABLES = (
    "GITHUB_WORKSPACE",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_OUTPUT",
    "GITHUB_ACTIONS",
    "CI_PROJECT_DIR",
)


def one_test(macs: int, maximum: int = 10, name: str = "test_mlp") -> Report:
    limits = (limit("macs", maximum, source="marker"),)
    return reported(
        budgeted(f"tests/test_a.py::{name}", measured(macs={"fc": macs}), limits=limits)
    )


def run(*args: object) -> Exit:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return compare.run(parser.parse_args([str(arg) for arg in args]))


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: Patch, tmp_path: Path) -> None:
    """The tests may themselves run in a job."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def job(monkeypatch: Patch, tmp_path: Path) -> Path:
    """A checkout in a job: its folder, in which summary.md and output.txt appear."""
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output.txt"))
    return tmp_path


def written(path: str, report: Report) -> Path:
    write_report(report, Path(path))
    return Path(path)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("maximum", "severity", "codes"),
        [
            # The interval ends at 3 s, and a bound at its end holds.
            (3, Severity.ERROR, (Exit.WITHIN, Exit.WITHIN)),
            (2, Severity.ERROR, (Exit.WITHIN, Exit.OVER)),
            (2, Severity.WARN, (Exit.WITHIN, Exit.WITHIN)),
            (0.5, Severity.ERROR, (Exit.OVER, Exit.OVER)),
        ],
    )
    def test_inconclusive_alone_fails_only_a_strict_comparison(
        self, maximum: float, severity: Severity, codes: tuple[Exit, Exit]
    ) -> None:
        sampled = measured(latency=Value(value=2.0, low=1.0, high=3.0))
        limits = (limit("latency", maximum, severity=severity),)
        head = written("head.json", reported(budgeted("test_a.py::test_a", sampled, limits=limits)))
        assert (run(head), run(head, "--strict-latency")) == codes

    @pytest.mark.parametrize(
        ("head", "code"),
        [
            (one_test(10), Exit.WITHIN),
            (one_test(11), Exit.OVER),
            (one_test(19, maximum=20), Exit.WITHIN),
            (reported(), Exit.NOTHING_MEASURED),
        ],
        ids=["within", "over", "loosened", "nothing"],
    )
    def test_the_exit_code_is_the_verdict(self, head: Report, code: Exit) -> None:
        base = written("base.json", one_test(5))
        assert run(base, written("head.json", head)) is code

    def test_growth_beyond_what_is_allowed_is_over(self) -> None:
        limits = (limit("macs", vs_baseline=0),)
        paths = [
            written(
                f"{macs}.json",
                reported(budgeted("t.py::t", measured(macs={"": macs}), limits=limits)),
            )
            for macs in (1, 2)
        ]
        assert run(*paths) is Exit.OVER
        assert run(*reversed(paths)) is Exit.WITHIN

    def test_a_head_alone_is_held_to_its_own_budgets(self, capsys: Capture) -> None:
        assert run(written("head.json", one_test(11))) is Exit.OVER
        assert "no baseline yet: absolute budgets alone are judged" in capsys.readouterr().out

    def test_three_reports_are_too_many(self) -> None:
        with pytest.raises(FlopBudgetError, match=r"give two reports, BASE.json HEAD.json"):
            run("a.json", "b.json", "c.json")

    def test_a_report_that_is_not_there_is_named(self) -> None:
        with pytest.raises(FlopBudgetError, match=r"^gone.json: cannot read the report"):
            run("gone.json")


class TestGate:
    LINE = "Flop-Budget-Accept: *::test_mlp macs <= {} - it pays\n"

    @pytest.mark.parametrize(
        ("base", "head", "plain", "gated"),
        [
            (one_test(10), one_test(10), Exit.WITHIN, Exit.WITHIN),
            (one_test(10), one_test(11), Exit.OVER, Exit.OVER),
            (one_test(11), one_test(11), Exit.OVER, Exit.WITHIN),
            (one_test(5), one_test(19, maximum=20), Exit.WITHIN, Exit.OVER),
            (one_test(5), reported(), Exit.NOTHING_MEASURED, Exit.OVER),
            (reported(), reported(), Exit.NOTHING_MEASURED, Exit.NOTHING_MEASURED),
        ],
        ids=["within", "over", "pre-existing", "loosened", "removed", "nothing"],
    )
    def test_the_gate_has_a_policy_and_a_plain_comparison_none(
        self, base: Report, head: Report, plain: Exit, gated: Exit
    ) -> None:
        paths = written("base.json", base), written("head.json", head)
        assert run(*paths) is plain
        assert run(*paths, "--gate") is gated

    @pytest.mark.parametrize(
        ("head", "plain", "gated"),
        [
            (one_test(10), Exit.WITHIN, Exit.USAGE),
            (one_test(11), Exit.OVER, Exit.OVER),
            (reported(), Exit.NOTHING_MEASURED, Exit.USAGE),
        ],
        ids=["within", "over", "nothing"],
    )
    def test_a_run_that_did_not_reach_its_end_does_not_pass_the_gate(
        self, head: Report, plain: Exit, gated: Exit, capsys: Capture
    ) -> None:
        base = written("base.json", one_test(10))
        cut = written("head.json", replace(head, is_interrupted=True))
        assert run(base, cut) is plain
        assert run(base, cut, "--gate") is gated
        assert "the run was interrupted: what it did not reach is not judged" in " ".join(
            capsys.readouterr().out.split()
        )

    def test_that_a_run_did_not_reach_its_end_is_said_where_the_result_goes_to_a_file(
        self, capsys: Capture
    ) -> None:
        base = written("base.json", one_test(10))
        cut = written("head.json", replace(one_test(10), is_interrupted=True))
        assert run(base, cut, "--gate", "--output", "out.txt") is Exit.USAGE
        assert capsys.readouterr().err == (
            "flopbudget compare: The run did not reach its end, so that nothing can be said of "
            "the rest\n"
        )
        assert run(base, base, "--gate", "--output", "out.txt") is Exit.WITHIN
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(("cap", "code"), [(12, Exit.WITHIN), (11, Exit.OVER)])
    def test_lines_of_a_file_or_of_standard_input_are_accepted(
        self, cap: int, code: Exit, monkeypatch: Patch, tmp_path: Path
    ) -> None:
        head = written("head.json", one_test(12))
        (tmp_path / "body.md").write_bytes(b"caf\xe9\r\n\r\n" + self.LINE.format(cap).encode())
        assert run(head, "--gate", "--accept", "body.md") is code
        monkeypatch.setattr(sys, "stdin", io.StringIO(self.LINE.format(cap)))
        assert run(head, "--gate", "--accept", "-") is code

    def test_a_line_that_cannot_be_read_is_told(self, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "body.md").write_text("Flop-Budget-Accept: x\n")
        head = written("head.json", one_test(12))
        assert run(head, "--gate", "--accept", "body.md") is Exit.OVER
        assert "cannot read 'Flop-Budget-Accept: x'" in capsys.readouterr().out

    def test_acceptances_without_the_gate_are_refused(self) -> None:
        head = written("head.json", one_test(12))
        with pytest.raises(FlopBudgetError, match="write --gate too"):
            run(head, "--accept", "body.md")

    def test_a_file_that_is_not_there_is_named(self) -> None:
        head = written("head.json", one_test(12))
        with pytest.raises(FlopBudgetError, match=r"^gone.md: cannot read: No such file"):
            run(head, "--gate", "--accept", "gone.md")


class TestBesideTheBase:
    """Two prepared reports, of which the head's holds what timing both said."""

    CASES: ClassVar = {
        "regressed": (TimedOutcome.REGRESSED, ratio(1.2), Exit.OVER),
        "within": (TimedOutcome.WITHIN, ratio(1.01), Exit.WITHIN),
        "unstable": (TimedOutcome.UNSTABLE, ratio(1.2, spread=0.3), Exit.WITHIN),
        "not timed": (TimedOutcome.NOT_TIMED, None, Exit.WITHIN),
    }
    WORDS: ClassVar = {
        "regressed": "SLOWER",
        "within": "ok",
        "unstable": "unstable",
        "not timed": "not timed",
    }

    def paths(self, name: str, metric: str = "latency", base: str = BASE.commit) -> list[Path]:
        outcome, found, _ = self.CASES[name]
        test = budgeted(
            "tests/test_a.py::test_slow",
            measured(macs={"fc": 5}, **{metric: 0.005}),
            limits=(limit(metric, vs_baseline=0.05),),
        )
        timings = beside(timed(test, outcome, found, reason="said so"), base=base)
        return [
            written("base.json", reported(test, git=BASE)),
            written("head.json", reported(test, git=HEAD, side_by_side=timings)),
        ]

    @pytest.mark.parametrize("metric", ["latency", "throughput"])
    @pytest.mark.parametrize("options", [(), ("--gate",)], ids=["plain", "gate"])
    @pytest.mark.parametrize("name", list(CASES))
    def test_the_exit_code_is_what_the_timing_said(
        self, name: str, options: tuple[str, ...], metric: str, capsys: Capture
    ) -> None:
        assert run(*self.paths(name, metric), *options) is self.CASES[name][2]
        # By name, whatever came of it.
        lines = capsys.readouterr().out.splitlines()
        row = lines[lines.index("timed beside the base") + 2]
        assert row.startswith("  test_slow ")
        assert row.endswith(f"  {self.WORDS[name]}")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("terminal", "test_slow said so"),
            ("markdown", "| 5 ms | 6 ms | +20.0 % | [+19.0, +21.0] | 1.8 % | SLOWER |"),
            ("json", '"outcome": "regressed"'),
            ("junit", 'message="test_slow said so"'),
            ("code-quality", '"description": "test_slow said so"'),
        ],
    )
    def test_every_format_tells_of_a_slower_test(
        self, name: str, words: str, capsys: Capture
    ) -> None:
        assert run(*self.paths("regressed"), "--format", name) is Exit.OVER
        assert words in capsys.readouterr().out

    def test_so_do_the_annotations(self, capsys: Capture) -> None:
        assert run(*self.paths("regressed"), "--format", "github") is Exit.OVER
        assert capsys.readouterr().out == (
            "::error file=tests/test_a.py,line=3::test_slow said so\n"
        )

    def test_timings_beside_another_base_are_left_out_and_that_is_said(
        self, capsys: Capture
    ) -> None:
        assert run(*self.paths("regressed", base="c" * 40)) is Exit.WITHIN
        said = " ".join(capsys.readouterr().out.split())
        assert "taken beside ccccccccc, and this base is bbbbbbbbb: they say nothing of it" in said
        assert "timings of separate runs are not comparable" in said
        assert "SLOWER" not in said

    @pytest.mark.parametrize(("cap", "code"), [("+20%", Exit.WITHIN), ("+19%", Exit.OVER)])
    def test_a_slower_test_is_accepted_up_to_its_cap(self, cap: str, code: Exit) -> None:
        Path("body.md").write_text(f"Flop-Budget-Accept: *::test_slow latency <= {cap} - it pays\n")
        assert run(*self.paths("regressed"), "--gate", "--accept", "body.md") is code


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "start"),
        [
            ("terminal", "1 over budget"),
            ("markdown", "### "),
            ("json", "{"),
            ("junit", "<?xml "),
            ("code-quality", "["),
        ],
    )
    def test_each_format_is_printed_or_written(
        self, name: str, start: str, tmp_path: Path, capsys: Capture
    ) -> None:
        paths = written("base.json", one_test(5)), written("head.json", one_test(11))
        run(*paths, "--format", name)
        printed = capsys.readouterr().out
        assert printed.startswith(start)
        assert run(*paths, "--format", name, "--output", "page.txt") is Exit.OVER
        assert capsys.readouterr().out == ""
        assert (tmp_path / "page.txt").read_text(encoding="utf-8") == printed

    def test_json_is_json(self, capsys: Capture) -> None:
        run(written("head.json", one_test(11)), "--format", "json")
        assert json.loads(capsys.readouterr().out)["standing"] == "over"

    def test_code_quality_names_files_from_the_root_of_the_checkout(
        self, monkeypatch: Patch, tmp_path: Path, capsys: Capture
    ) -> None:
        (tmp_path / "models" / "tests").mkdir(parents=True)
        (tmp_path / "models" / "tests" / "test_a.py").touch()
        monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path))
        monkeypatch.chdir(tmp_path / "models")
        run(written("head.json", one_test(11)), "--format", "code-quality")
        (issue,) = json.loads(capsys.readouterr().out)
        assert issue["location"]["path"] == "models/tests/test_a.py"

    def test_a_file_that_cannot_be_written_is_named(self) -> None:
        head = written("head.json", one_test(1))
        with pytest.raises(FlopBudgetError, match=r"^gone/page.txt: cannot write: No such file"):
            run(head, "--output", "gone/page.txt")


class TestGitHub:
    def test_an_error_stands_at_the_test(self, capsys: Capture) -> None:
        assert run(written("head.json", one_test(11)), "--format", "github") is Exit.OVER
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(
            "::error file=tests/test_a.py,line=3::test_mlp used 11 MAC, budget 10 MAC (+10 %25)"
        )

    def test_the_file_is_named_from_the_root_of_the_checkout(
        self, job: Path, monkeypatch: Patch, capsys: Capture
    ) -> None:
        (job / "models" / "tests").mkdir(parents=True)
        (job / "models" / "tests" / "test_a.py").touch()
        monkeypatch.chdir(job / "models" / "tests")
        run(written("head.json", one_test(11)), "--format", "github")
        assert "file=models/tests/test_a.py,line=3" in capsys.readouterr().out

    def test_a_file_outside_the_checkout_keeps_its_name(
        self,
        job: Path,
        monkeypatch: Patch,
        tmp_path_factory: pytest.TempPathFactory,
        capsys: Capture,
    ) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "tests").mkdir()
        (elsewhere / "tests" / "test_a.py").touch()
        monkeypatch.chdir(elsewhere)
        run(written("head.json", one_test(11)), "--format", "github")
        assert "file=tests/test_a.py,line=3" in capsys.readouterr().out

    def test_the_summary_is_appended_and_the_outputs_are_set(self, job: Path) -> None:
        (job / "summary.md").write_text("# Before\n")
        head = written("head.json", one_test(19, maximum=20))
        run(written("base.json", one_test(5)), head, "--format", "github")
        summary = (job / "summary.md").read_text(encoding="utf-8")
        assert summary.startswith("# Before\n### ")
        assert "[!CAUTION]" in summary
        values = (job / "output.txt").read_text().splitlines()[1::3]
        assert values == ["pass", "0", "1", str((job / "head.json").resolve())]

    def test_outside_a_job_only_the_annotations_appear(self, tmp_path: Path) -> None:
        run(written("head.json", one_test(11)), "--format", "github")
        assert [entry.name for entry in tmp_path.iterdir()] == ["head.json"]

    @pytest.mark.parametrize(
        "name",
        [
            "test[a\n::error::forged]",
            "test[a\r\n::set-output name=x::y]",
            "test[50%0A::error::forged]",
            "test[x,line=1::forged]",
            "test[\u2028::error::forged]",
            "test[\udcff]",
        ],
    )
    def test_no_name_can_write_a_command_of_its_own(self, name: str, capsys: Capture) -> None:
        report = reported(
            budgeted(f"{name}::{name}", measured(macs={"": 2}), limits=(limit("macs", 1),))
        )
        run(written("head.json", report), "--format", "github")
        (line,) = capsys.readouterr().out.split("\n")[:-1]
        # ::error PROPERTIES::MESSAGE, where the runner ends the properties at the first "::".
        properties = line.removeprefix("::error ").partition("::")[0]
        assert [one.partition("=")[0] for one in properties.split(",")] == ["file", "line"]
        assert "%0A" not in line.replace("%250A", "")

    def test_the_summary_keeps_below_the_limit_of_a_job(self, job: Path) -> None:
        tests = [
            budgeted(
                f"t.py::test_{'x' * 100}_{n}", measured(macs={"": 2}), limits=(limit("macs", 1),)
            )
            for n in range(6000)
        ]
        run(written("head.json", reported(*tests)), "--format", "github")
        size = (job / "summary.md").stat().st_size
        assert SUMMARY_BYTES // 2 < size <= SUMMARY_BYTES

    def test_it_has_no_file_to_write_to(self) -> None:
        head = written("head.json", one_test(1))
        with pytest.raises(FlopBudgetError, match="leave out --output"):
            run(head, "--format", "github", "--output", "page.txt")

    def test_a_missing_library_is_named_with_the_cure(self, monkeypatch: Patch) -> None:
        monkeypatch.setitem(sys.modules, "github_action_utils", None)
        head = written("head.json", one_test(1))
        with pytest.raises(FlopBudgetError, match=r'pip install "pytest-flopbudget\[github\]"'):
            run(head, "--format", "github")
