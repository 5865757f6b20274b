"""The job after a matrix, from what the measuring jobs left behind to the verdict and the comment.

The budget is 40 000 MACs wherever a test does not say otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_flopbudget.core.legs import Leg, Series, leg_to_json
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.report import Git, Report, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.github.gate import main

from ..builders import beside, budgeted, limit, measured, ratio, reported, timed
from .api_mock import REPOSITORY, WORKFLOW_LOGIN, Fault
from .composite import Result, assignments
from .conftest import TOKEN, event_payload
from .mock_runs import RUN_ID, workflow_run, zipped
from .repositories import Server
from .scenario import Scenario, merge_group_payload, opened, repository

Capture = pytest.CaptureFixture[str]

FORWARD = "tests/test_mlp.py::test_forward"
BACK = "tests/test_mlp.py::test_back"
LINE = "Flop-Budget-Accept: tests/test_mlp.py::* macs <= 60000 - a wider model"


def costing(macs: int, *, name: str = FORWARD, budget: int | None = 40_000) -> TestReport:
    limits = () if budget is None else (limit("macs", budget),)
    return budgeted(name, measured(macs={"0": macs}), limits=limits)


def run_of(*tests: TestReport, commit: str = "a", torch: str = "2.13.0") -> Report:
    git = Git(commit=commit * 40, branch="main", is_dirty=False)
    return reported(*tests, git=git, versions={"torch": torch})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    directory = tmp_path_factory.mktemp("gate")
    return repository(directory, {"README.md": "1"}, {"README.md": "2"})


@pytest.fixture
def pull(tmp_path: Path, server: Server) -> Iterator[Scenario]:
    with opened(tmp_path, server) as scenario:
        scenario.show(payload(scenario)["pull_request"])
        yield scenario


def payload(pull: Scenario, *, is_fork: bool = False) -> dict[str, Any]:
    head_sha, base_sha = pull.sha("topic"), pull.sha("main")
    return event_payload(head_sha=head_sha, base_sha=base_sha, is_fork=is_fork)


def leave(pull: Scenario, head: Report, base: Report | None, name: str = "cpu") -> None:
    """What a measuring job leaves behind."""
    leg = Leg(name=name, head=head, base=base)
    pull.shown.upload(f"flopbudget-{name}", zipped(json.dumps(leg_to_json(leg)).encode()))


def gate(pull: Scenario, event: dict[str, Any] | None = None, **given: str) -> Result:
    return pull.later("gate", "pull_request", event or payload(pull), **given)


@dataclass
class Judged:
    """What the gate's own part of the action said and wrote."""

    exit_code: int
    outputs: dict[str, str]
    log: str
    summary: str
    comment: str
    """As it is handed to the step that posts it; empty where there is none."""


Judge = Callable[..., Judged]


@pytest.fixture
def judge(
    pull: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> Judge:
    """Runs the command of the step in this process, where the steps around it change nothing."""

    def run(head: Report, base: Report | None, *options: str, event: Any = None) -> Judged:
        leave(pull, head, base)
        environment = pull.environment(tmp_path, "pull_request", event or payload(pull))
        files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for name, value in {**environment, **files, "GITHUB_TOKEN": TOKEN}.items():
            monkeypatch.setenv(name, str(value))
        comment = tmp_path / "comment.md"
        code = main([*options, f"--comment-to={comment}"])
        return Judged(
            exit_code=code,
            outputs=assignments(files["GITHUB_OUTPUT"]),
            log=capsys.readouterr().out,
            summary=files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"),
            comment=comment.read_text(encoding="utf-8") if comment.exists() else "",
        )

    return run


def judged(pull: Scenario, head: Report, base: Report | None, **given: str) -> Result:
    """The same through all steps of the action."""
    leave(pull, head, base)
    return gate(pull, **given)


def exit_code(result: Result) -> str:
    return result.steps["Judge"].outputs["exit-code"]


class TestMatrix:
    def test_two_legs_that_agree_are_one_row_and_one_comment(self, pull: Scenario) -> None:
        for name in ("py311", "py312"):
            leave(pull, run_of(costing(30_000)), run_of(costing(20_000)), name)
        result = gate(pull, expect="py311 py312")
        assert result.conclusion == "success", result.log
        assert result.outputs["verdict"] == "pass"
        (comment,) = pull.comments()
        assert comment.count("test_forward") == 1
        assert f"run={RUN_ID} attempt=1" in comment
        assert result.outputs["comment-url"] == pull.github.comments[0]["html_url"]
        assert "test_forward" in result.summary

    def test_one_leg_over_budget_fails_the_whole_and_is_named(self, pull: Scenario) -> None:
        leave(pull, run_of(costing(30_000)), run_of(costing(20_000)), "py311")
        leave(pull, run_of(costing(50_000)), run_of(costing(20_000)), "py312")
        result = gate(pull, expect="py311, py312", root="models")
        assert (result.conclusion, result.outputs["over-budget"]) == ("failure", "1")
        assert exit_code(result) == "1"
        assert "py312" in result.summary
        assert "::error file=models/tests/test_mlp.py,line=3::" in result.log

    def test_a_missing_leg_fails_and_is_named(self, pull: Scenario) -> None:
        leave(pull, run_of(costing(30_000)), run_of(costing(20_000)), "py311")
        result = gate(pull, expect="py311 py312")
        assert (result.conclusion, result.outputs["verdict"]) == ("failure", "incomplete")
        assert exit_code(result) == "2"
        errors = [line for line in result.log.splitlines() if line.startswith("::error")]
        assert ["py312" in line for line in errors] == [True]
        assert "py312" in pull.comments()[0]

    def test_a_leg_that_cannot_be_read_is_a_missing_one(self, pull: Scenario) -> None:
        leave(pull, run_of(costing(30_000)), None, "py311")
        pull.shown.upload("flopbudget-py312", zipped(b"{}"))
        result = gate(pull)
        assert (result.conclusion, result.outputs["verdict"]) == ("failure", "incomplete")
        assert "::warning title=Compute budget::artifact 'flopbudget-py312'" in result.log

    def test_a_leg_that_was_not_asked_for_is_left_out(self, pull: Scenario) -> None:
        leave(pull, run_of(costing(30_000)), None, "cpu")
        leave(pull, run_of(costing(50_000)), None, "nightly")
        assert gate(pull, expect="cpu").outputs["verdict"] == "pass"

    def test_a_run_that_left_nothing_behind_does_not_pass(self, pull: Scenario) -> None:
        result = gate(pull)
        assert result.conclusion == "failure"
        assert exit_code(result) == "2"
        assert "::error title=Compute budget::the run left no legs behind" in result.log
        assert pull.comments() == []

    def test_artifacts_that_cannot_be_listed_do_not_pass(self, pull: Scenario) -> None:
        leave(pull, run_of(costing(30_000)), None)
        path = f"/repos/{REPOSITORY}/actions/runs/{RUN_ID}/artifacts"
        pull.github.faults = [Fault("GET", path, 403)]
        result = gate(pull)
        assert (result.conclusion, exit_code(result)) == ("failure", "2")
        assert "GitHub answered 403" in result.log


class TestFirstRun:
    def test_budgets_hold_without_a_baseline(self, judge: Judge) -> None:
        found = judge(run_of(costing(40_000)), None)
        assert (found.exit_code, found.outputs["verdict"]) == (0, "pass")
        assert "no baseline" in found.comment.lower()

    def test_and_one_that_is_exceeded_fails(self, judge: Judge) -> None:
        found = judge(run_of(costing(40_001)), None)
        assert (found.exit_code, found.outputs["verdict"]) == (1, "fail")


class TestBaseAlreadyOver:
    @pytest.mark.parametrize(("macs", "exit_code"), [(49_999, 0), (50_000, 0), (50_001, 1)])
    def test_only_more_than_the_base_fails(self, judge: Judge, macs: int, exit_code: int) -> None:
        found = judge(run_of(costing(macs)), run_of(costing(50_000)))
        assert found.exit_code == exit_code
        assert "test_forward" in found.comment


class TestLoosening:
    @pytest.mark.parametrize(
        "head",
        [
            run_of(costing(30_000)),
            run_of(costing(30_000), budgeted(BACK, outcome=TestOutcome.SKIPPED)),
            run_of(costing(30_000), costing(5, name=BACK, budget=None)),
            run_of(costing(30_000), costing(5, name=BACK, budget=11)),
        ],
        ids=["deleted", "skipped", "budget removed", "budget raised"],
    )
    def test_a_budget_that_is_gone_or_raised_needs_approval(
        self, judge: Judge, head: Report
    ) -> None:
        base = run_of(costing(30_000), costing(5, name=BACK, budget=10))
        found = judge(head, base)
        assert (found.exit_code, found.outputs["verdict"]) == (1, "needs-approval")
        assert found.outputs["loosened"] == "1"
        assert "test_back" in found.comment

    def test_the_job_fails_and_says_what_to_do(self, pull: Scenario) -> None:
        base = run_of(costing(30_000), costing(5, name=BACK, budget=10))
        result = judged(pull, run_of(costing(30_000)), base, label="ok-by-us")
        assert "<code>ok-by-us</code>" in result.summary
        assert "<code>ok-by-us</code>" in pull.comments()[0]
        assert (result.conclusion, result.outputs["verdict"]) == ("failure", "needs-approval")
        assert (
            "label ok-by-us, and a line in the description: Flop-Budget-Accept: tests/"
            in result.log
        )

    def test_a_removed_test_can_be_accepted(self, pull: Scenario, judge: Judge) -> None:
        pull.accept(f"Flop-Budget-Accept: {BACK} removed - not used any more")
        base = run_of(costing(30_000), costing(5, name=BACK, budget=10))
        found = judge(run_of(costing(30_000)), base)
        assert (found.exit_code, found.outputs["verdict"]) == (0, "accepted")
        assert "not used any more" in found.comment


class TestAccepting:
    def test_a_label_and_a_line_accept_up_to_the_cap_and_say_who(self, pull: Scenario) -> None:
        pull.accept(LINE)
        result = judged(pull, run_of(costing(60_000)), run_of(costing(30_000)))
        assert (result.conclusion, result.outputs["verdict"]) == ("success", "accepted")
        comment = pull.comments()[0]
        assert "a wider model" in comment
        assert "maintainer" in comment

    def test_growing_beyond_the_cap_fails_again(self, pull: Scenario, judge: Judge) -> None:
        pull.accept(LINE)
        found = judge(run_of(costing(60_001)), run_of(costing(30_000)))
        assert (found.exit_code, found.outputs["verdict"]) == (1, "fail")

    def test_a_line_without_the_label_counts_for_nothing(
        self, pull: Scenario, judge: Judge
    ) -> None:
        pull.show({**pull.github.pull, "body": LINE})
        assert judge(run_of(costing(60_000)), run_of(costing(30_000))).exit_code == 1

    def test_the_workflow_names_the_label(self, pull: Scenario, judge: Judge) -> None:
        pull.accept(LINE)
        base = run_of(costing(30_000))
        assert judge(run_of(costing(60_000)), base, "--label=other").exit_code == 1

    def test_a_line_that_cannot_be_read_is_told(self, pull: Scenario, judge: Judge) -> None:
        pull.accept("Flop-Budget-Accept: tests/test_mlp.py::* macs <= much - no number")
        found = judge(run_of(costing(60_000)), run_of(costing(30_000)))
        assert found.exit_code == 1
        assert "cannot read" in found.comment
        assert "cannot read" in found.summary

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (403, "::notice title=Compute budget::the token may not read pull requests"),
            (
                410,
                "::warning title=Compute budget::what #7 accepts cannot be read as it is now: GET",
            ),
        ],
    )
    def test_a_pull_request_that_cannot_be_read_is_as_the_event_shows_it(
        self, pull: Scenario, judge: Judge, status: int, said: str
    ) -> None:
        pull.accept(LINE)
        event = {**payload(pull), "pull_request": pull.github.pull}
        pull.github.faults = [Fault("GET", f"/repos/{REPOSITORY}/pulls/7", status)]
        found = judge(run_of(costing(60_000)), run_of(costing(30_000)), event=event)
        assert (found.exit_code, found.outputs["verdict"]) == (0, "accepted")
        assert said in found.log

    def test_what_a_pull_request_accepts_counts_in_the_merge_queue(self, pull: Scenario) -> None:
        pull.accept(LINE)
        leave(pull, run_of(costing(60_000)), run_of(costing(30_000)))
        event = merge_group_payload(head_sha=pull.sha("topic"), base_sha=pull.sha("main"))
        result = pull.later("gate", "merge_group", event)
        assert result.outputs["verdict"] == "accepted"
        assert result.steps["Comment"].conclusion == "skipped"
        assert pull.github.writes() == []


class TestBesideTheBase:
    """What the measuring job timed on both sides, on its way to the comment."""

    TEST = budgeted(
        FORWARD,
        measured(macs={"0": 5}, latency=0.005),
        limits=(limit("latency", vs_baseline=0.05),),
    )

    def sides(self, outcome: TimedOutcome, found: Ratio, reason: str = "so") -> tuple[Report, ...]:
        timings = beside(timed(self.TEST, outcome, found, reason=reason))
        head = replace(run_of(self.TEST, commit="a"), side_by_side=timings)
        return head, run_of(self.TEST, commit="b")

    @pytest.mark.parametrize(
        ("outcome", "found", "exit_code", "row"),
        [
            (
                TimedOutcome.REGRESSED,
                ratio(1.2),
                1,
                "| 5 ms | 6 ms | +20.0 % | [+19.0, +21.0] | 1.8 % | SLOWER |",
            ),
            (
                TimedOutcome.WITHIN,
                ratio(1.02),
                0,
                "| 5 ms | 5.1 ms | +2.0 % | [+1.0, +3.0] | 1.8 % | ok |",
            ),
            (
                TimedOutcome.UNSTABLE,
                ratio(1.2, spread=0.3, noise=0.4),
                0,
                "| 5 ms | 6 ms | +20.0 % | [-10.0, +50.0] | 40.0 % | unstable, not gated |",
            ),
        ],
    )
    def test_the_verdict_and_the_row_reach_the_comment(
        self, judge: Judge, outcome: TimedOutcome, found: Ratio, exit_code: int, row: str
    ) -> None:
        judged = judge(*self.sides(outcome, found))
        assert judged.exit_code == exit_code
        for page in (judged.comment, judged.summary):
            assert f"| <code>test_forward</code> | <code>latency</code> {row}" in page
        assert ("::error" in judged.log) is bool(exit_code)

    def test_the_line_that_is_offered_accepts_it(self, pull: Scenario, judge: Judge) -> None:
        head, base = self.sides(TimedOutcome.REGRESSED, ratio(1.2))
        (line,) = re.findall(r"^Flop-Budget-Accept: .*$", judge(head, base).comment, re.MULTILINE)
        pull.accept(line.removesuffix("reason") + "it pays")
        accepted = judge(head, base)
        assert (accepted.exit_code, accepted.outputs["verdict"]) == (0, "accepted")

    def test_a_leg_whose_timings_make_no_sense_is_a_missing_one(self, pull: Scenario) -> None:
        head, base = self.sides(TimedOutcome.WITHIN, ratio(1.02))
        document = leg_to_json(Leg(name="cpu", head=head, base=base))
        document["head"]["side_by_side"]["tests"][0]["ratio"]["interval"] = [-1, 1]
        pull.shown.upload("flopbudget-cpu", zipped(json.dumps(document).encode()))
        result = gate(pull)
        assert (result.conclusion, exit_code(result)) == ("failure", "2")

    def test_the_reason_cannot_write_into_the_page(self, judge: Judge) -> None:
        hostile = "| x |\n\n# forged <script>"
        found = judge(*self.sides(TimedOutcome.UNSTABLE, ratio(1.2), reason=hostile))
        assert "<script>" not in found.comment
        assert "\n# forged" not in found.comment


class TestComment:
    @pytest.mark.parametrize("state", ["a newer run", "a later attempt"])
    def test_an_old_run_that_ends_late_changes_nothing(self, pull: Scenario, state: str) -> None:
        run, attempt = (RUN_ID + 1, 1) if state == "a newer run" else (RUN_ID, 2)
        newer = (
            "<!-- pytest-flopbudget:v1 id=default -->\n<!-- pytest-flopbudget:state "
            f"sha={pull.sha('topic')} run={run} attempt={attempt} -->\nnewer\n"
        )
        pull.github.add_comment(newer, WORKFLOW_LOGIN)
        result = judged(pull, run_of(costing(50_000)), None)
        assert result.outputs["verdict"] == "fail"
        assert pull.comments() == [newer]

    def test_a_run_whose_commit_is_no_longer_the_head_changes_nothing(self, pull: Scenario) -> None:
        moved = event_payload(head_sha="d" * 40, base_sha=pull.sha("main"))
        pull.show(moved["pull_request"])
        leave(pull, run_of(costing(30_000)), None)
        assert gate(pull).conclusion == "success"
        assert pull.github.writes() == []

    @pytest.mark.parametrize(
        ("when", "macs", "mode"),
        [
            ("always", 30_000, "post"),
            ("true", 30_000, "post"),
            ("changes", 30_000, "only-update"),
            ("changes", 30_001, "post"),
            ("failures", 30_001, "only-update"),
            ("failures", 40_001, "post"),
            ("never", 40_001, None),
            ("false", 40_001, None),
        ],
    )
    def test_a_comment_is_written_when_it_is_asked_for(
        self, judge: Judge, when: str, macs: int, mode: str | None
    ) -> None:
        found = judge(run_of(costing(macs)), run_of(costing(30_000)), f"--when={when}")
        assert found.outputs.get("comment-mode") == mode
        assert ("comment-path" in found.outputs) is (mode is not None)
        assert bool(found.comment) is (mode is not None)

    def test_no_first_one_is_posted_where_there_is_nothing_to_say(self, pull: Scenario) -> None:
        judged(pull, run_of(costing(30_000)), run_of(costing(30_000)), comment="changes")
        assert pull.comments() == []

    def test_one_that_is_there_is_kept_right(self, pull: Scenario) -> None:
        old = "<!-- pytest-flopbudget:v1 id=default -->\nover budget\n"
        pull.github.add_comment(old, WORKFLOW_LOGIN)
        judged(pull, run_of(costing(30_000)), run_of(costing(30_000)), comment="failures")
        (comment,) = pull.comments()
        assert "over budget" not in comment

    def test_a_word_that_is_none_of_them_fails(self, pull: Scenario) -> None:
        result = judged(pull, run_of(costing(30_000)), None, comment="sometimes")
        assert (result.conclusion, exit_code(result)) == ("failure", "2")
        assert "comment: 'sometimes' is none of always, changes, failures, never" in result.log

    def test_a_pull_request_from_a_fork_is_left_to_the_second_workflow(
        self, pull: Scenario
    ) -> None:
        leave(pull, run_of(costing(30_000)), None)
        result = gate(pull, payload(pull, is_fork=True))
        assert (result.conclusion, result.outputs["verdict"]) == ("success", "pass")
        assert "::notice title=Compute budget::the token of a pull request from a fork" in (
            result.log
        )
        assert pull.github.writes() == []

    def test_one_by_dependabot_is_too(self, pull: Scenario) -> None:
        leave(pull, run_of(costing(30_000)), run_of(costing(20_000)))
        event = payload(pull)
        event["sender"]["login"] = event["pull_request"]["user"]["login"] = "dependabot[bot]"
        result = gate(pull, event)
        assert result.outputs["verdict"] == "pass"
        assert result.steps["Comment"].conclusion == "skipped"
        assert "::notice title=Compute budget::the token of a pull request by Dependabot" in (
            result.log
        )
        assert "::warning" not in result.log
        assert pull.github.writes() == []
        # The event of the second workflow gets a token that writes.
        pull.later("comment", "workflow_run", workflow_run(head_sha=pull.sha("topic")))
        (comment,) = pull.comments()
        assert "test_forward" in comment
        assert "easured by code of this pull request" not in comment

    def test_a_refusal_is_a_warning_and_the_verdict_stands(self, pull: Scenario) -> None:
        pull.github.faults = [Fault("POST", f"/repos/{REPOSITORY}/issues/7/comments", 403)]
        result = judged(pull, run_of(costing(30_000)), None)
        assert (result.conclusion, result.outputs["comment-url"]) == ("success", "")
        assert "::warning title=Compute budget::The comment was not written" in result.log


def test_an_improvement_passes_and_is_told(judge: Judge) -> None:
    found = judge(run_of(costing(20_000)), run_of(costing(30_000)))
    assert (found.exit_code, found.outputs["verdict"]) == (0, "pass")
    assert "Improved" in found.comment


def test_another_torch_on_the_base_is_told(judge: Judge) -> None:
    base = run_of(costing(30_000), torch="2.12.0")
    comment = judge(run_of(costing(31_000)), base).comment.replace("&#46;", ".")
    assert "2.12.0" in comment
    assert "2.13.0" in comment


def test_what_depends_on_the_machine_is_not_compared_across_two(judge: Judge) -> None:
    def side(cpu: str, macs: int, peak: int, seconds: float) -> Report:
        values = {"allocator_peak": peak, "latency": seconds}
        limits = (limit("macs", 40_000), limit("allocator_peak", 9_000))
        test = budgeted(FORWARD, measured(macs={"0": macs}, **values), limits=limits)
        return replace(run_of(test), machine={"cpu": cpu})

    base = side("EPYC 7763", 20_000, 1_024, 0.5)
    other = judge(side("Xeon 8370C", 30_000, 4_096, 2.5), base)
    assert other.exit_code == 0
    folded = other.comment.split("Not comparable", 1)[1].split("</details>", 1)[0]
    assert "1 KiB | 4 KiB |" in folded
    # Times of two machines do not even stand side by side.
    assert ("2.5 s |" in folded, "500 ms" in other.comment) == (True, False)
    # Neither has a difference in percent, which the count has: half as much again.
    assert ("+50 %" in other.comment, "+300 %" in other.comment) == (True, False)
    assert "+400 %" not in other.comment
    assert "EPYC 7763" in other.comment
    # The control: on one machine the allocator's peak is a change, and latency still is none.
    same = judge(side("EPYC 7763", 30_000, 4_096, 2.5), base)
    assert ("+300 %" in same.comment, "+400 %" in same.comment) == (True, False)


def test_an_older_base_and_its_history_reach_the_comment(pull: Scenario) -> None:
    leg = Leg(
        name="cpu",
        head=run_of(costing(39_000)),
        base=run_of(costing(30_000), commit="b"),
        baseline="branch",
        base_age=3,
        history=(Series(test=FORWARD, region="", metric="macs", values=(10_000, 20_000, 30_000)),),
    )
    pull.shown.upload("flopbudget-cpu", zipped(json.dumps(leg_to_json(leg)).encode()))
    gate(pull)
    comment = pull.comments()[0]
    assert "3 commits older" in comment
    assert "bbbbbbb" in comment


def test_nothing_measured_does_not_pass(pull: Scenario) -> None:
    result = judged(pull, run_of(), None)
    assert (result.conclusion, result.outputs["verdict"]) == ("failure", "nothing-measured")
    assert exit_code(result) == "3"
    assert "Nothing was measured" in result.log


def test_a_comment_that_is_too_long_links_the_summary_which_is_complete(judge: Judge) -> None:
    names = [f"test_{number:03}" for number in range(600)]
    every = [costing(50_000, name=f"tests/test_mlp.py::{name}") for name in names]
    found = judge(run_of(*every), None)
    assert len(found.comment.encode()) <= 60_000
    assert f"https://github.test/{REPOSITORY}/actions/runs/{RUN_ID}" in found.comment
    assert [name for name in names if name not in found.summary] == []
    # GitHub shows ten annotations of a level.
    assert found.log.count("::error ") == 10


def test_a_run_that_did_not_reach_its_end_does_not_pass(judge: Judge) -> None:
    found = judge(replace(run_of(costing(30_000)), is_interrupted=True), None)
    assert (found.exit_code, found.outputs["verdict"]) == (2, "incomplete")


def test_legs_are_read_from_files_too(
    pull: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    file = tmp_path / "leg.json"
    file.write_text(json.dumps(leg_to_json(Leg(name="cpu", head=run_of(costing(30_000))))))
    for name, value in pull.environment(tmp_path, "schedule", {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    assert main([str(file)]) == 0
    assert main([str(file), "--expect=cpu"]) == 0
    assert main([str(file), "--expect=cpu, gpu"]) == 2
    assert "gpu" in capsys.readouterr().out
    file.write_text("{}")
    assert main([str(file)]) == 2
    assert f"{file}: leg_version" in capsys.readouterr().err
    assert main([str(tmp_path / "gone.json")]) == 2
    assert "gone.json: cannot read" in capsys.readouterr().err
    assert pull.github.seen == []


def test_names_give_the_runner_no_orders(pull: Scenario) -> None:
    name = "tests/test_mlp.py::test_a\n::add-mask::x\r::error::y%0A::stop-commands::z"
    result = judged(pull, run_of(costing(50_000, name=name)), None)
    assert result.outputs["verdict"] == "fail"
    orders = [line for line in result.log.splitlines() if line.startswith("::")]
    assert [order.partition(" ")[0] for order in orders] == ["::error"]
    assert "%25" in orders[0]
