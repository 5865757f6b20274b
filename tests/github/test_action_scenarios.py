"""The measuring job from beginning to end: real commits, the real steps, the real plugin.

What the numbers are is told in `scenario`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .api_mock import REPOSITORY, Fault
from .composite import Result
from .mock_runs import RUN_ID, workflow_run
from .scenario import (
    FAILING,
    PLAIN,
    Scenario,
    macs,
    merge_group_payload,
    opened,
    project,
    push_payload,
    repository,
)

Opener = Callable[[dict[str, str], dict[str, str]], Scenario]


@pytest.fixture(scope="module")
def open_pull_request(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Makes a pull request out of the files of `main` and those of `topic`."""
    with ExitStack() as servers:

        def opener(main: dict[str, str], topic: dict[str, str]) -> Scenario:
            directory = tmp_path_factory.mktemp("pull-request")
            server = repository(directory, main, topic)
            return servers.enter_context(opened(directory, server))

        yield opener


class TestTwoPushes:
    """The first push doubles the width and is over budget; the second mends it."""

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> Scenario:
        pull = open_pull_request(project(width=256), project(width=512))
        for number in range(101):
            pull.github.add_comment(f"remark {number}", "reviewer")
        return pull

    @pytest.fixture(scope="class")
    @classmethod
    def first(cls, pull: Scenario) -> tuple[Result, list[str]]:
        return pull.gate(), pull.comments()

    @pytest.fixture(scope="class")
    @classmethod
    def second(cls, pull: Scenario, first: Any) -> tuple[Result, list[str]]:
        pull.server.commit("topic", project(width=300))
        return pull.gate(), pull.comments()

    def test_a_pull_request_over_budget_fails_the_job(self, first: Any) -> None:
        result, _ = first
        assert result.conclusion == "failure"
        failed = [step.name for step in result.steps.values() if step.conclusion == "failure"]
        assert failed == ["Gate"]

    def test_the_base_s_own_code_is_measured_beside_the_head_s(self, first: Any) -> None:
        head = Path(first[0].outputs["report-path"])
        assert macs(head) == 128 * 512
        assert macs(head.with_name("base.json")) == 128 * 256

    def test_a_budget_fails_no_test_but_the_gate(self, first: Any) -> None:
        log = first[0].steps["Measure the head"].log
        assert "1 passed" in log
        assert "failed" not in log

    def test_the_outputs_say_what_the_comparison_found(self, first: Any) -> None:
        result, _ = first
        assert result.outputs["over-budget"] == "1"
        assert result.outputs["loosened"] == "0"
        assert result.outputs["verdict"] == "fail"

    def test_annotations_and_the_summary_are_written_without_write_access(self, first: Any) -> None:
        result, _ = first
        assert "::error file=tests/test_mlp.py,line=" in result.steps["Judge"].log
        assert "test_forward" in result.summary

    def test_the_comment_is_posted_once_and_names_the_test(self, first: Any) -> None:
        result, (comment,) = first
        assert comment.startswith("<!-- pytest-flopbudget:v1 id=default -->\n")
        assert "test_forward" in comment
        assert result.outputs["comment-url"].endswith("#issuecomment-1101")

    def test_the_next_push_changes_that_comment_and_passes(
        self, first: Any, second: Any, pull: Scenario
    ) -> None:
        result, (comment,) = second
        assert result.conclusion == "success", result.log
        assert comment != first[1][0]
        assert result.outputs["comment-url"] == first[0].outputs["comment-url"]
        assert [method for method, _ in pull.github.writes()] == ["POST", "PATCH"]

    def test_the_measurements_are_kept_for_a_week(self, second: Any, pull: Scenario) -> None:
        (left,) = pull.uploads.artifacts
        assert (left.name, left.retention_days) == ("flopbudget-default", "7")

    def test_the_outputs_of_a_kept_budget(self, second: Any) -> None:
        result, _ = second
        assert result.outputs["over-budget"] == "0"
        assert result.outputs["verdict"] == "pass"


class TestLoosenedBudget:
    """A project below the root of its repository raises its budget with its model.

    The head itself is checked out, without history: the base is where the two branches part.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, pull: Scenario) -> Result:
        return pull.gate(ref="refs/heads/topic", depth=1, working_directory="models", id="m")

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> Scenario:
        pull = open_pull_request(
            project(width=256, under="models/"),
            project(width=512, budget=80_000, under="models/"),
        )
        # The base branch moves on; the pull request is not held against what it lacks.
        pull.server.commit("main", project(width=1, under="models/"))
        return pull

    def test_the_base_is_where_the_branches_part(self, result: Result) -> None:
        base = Path(result.outputs["report-path"]).with_name("base.json")
        assert macs(base) == 128 * 256

    def test_a_loosened_budget_needs_approval(self, result: Result) -> None:
        assert result.conclusion == "failure"
        assert result.outputs["verdict"] == "needs-approval"
        assert result.outputs["over-budget"] == "0"
        assert result.outputs["loosened"] == "1"
        said = "::error file=models/tests/test_mlp.py,line="
        assert said in result.steps["Judge"].log
        assert "label flopbudget-accept, and a line in the description" in result.log

    def test_the_comment_opens_with_the_loosened_budget(
        self, result: Result, pull: Scenario
    ) -> None:
        comment = pull.comments()[0]
        assert comment.startswith("<!-- pytest-flopbudget:v1 id=m -->\n")
        assert comment.index("loosens") < comment.index("| Test")

    def test_a_label_and_a_line_accept_it_when_the_job_is_run_again(
        self, result: Result, pull: Scenario
    ) -> None:
        pull.accept("Flop-Budget-Accept: tests/test_mlp.py::* macs <= 80000 - a wider model")
        # The event is that of the first attempt, as GitHub has it: without the label.
        again = pull.later("gate", "pull_request", {"pull_request": _without_label(pull)})
        assert again.conclusion == "success", again.log
        assert again.outputs["verdict"] == "accepted"
        assert "a wider model" in again.summary
        assert "maintainer" in again.summary


def _without_label(pull: Scenario) -> dict[str, Any]:
    return {**pull.github.pull, "labels": [], "body": None}


class TestFork:
    """A pull request that may not write, in a checkout that lacks its base.

    Its comment is written by the second workflow, from what the first one left behind.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> Scenario:
        return open_pull_request(project(width=256), {"README.md": "A word.\n"})

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, pull: Scenario) -> Result:
        return pull.gate(depth=1, is_fork=True)

    def test_the_job_passes_and_writes_nothing(self, result: Result, pull: Scenario) -> None:
        assert result.conclusion == "success", result.log
        assert result.outputs["verdict"] == "pass"
        assert result.outputs["comment-url"] == ""
        assert result.steps["Comment"].conclusion == "skipped"
        assert "::notice title=Compute budget::the token of a pull request from a fork" in (
            result.steps["Judge"].log
        )

    def test_the_missing_base_was_fetched(self, result: Result) -> None:
        assert macs(Path(result.outputs["report-path"]).with_name("base.json")) == 128 * 256

    def test_the_second_workflow_comments(self, result: Result, pull: Scenario) -> None:
        assert pull.github.writes() == []
        ended = workflow_run(head_sha=pull.sha("topic"), is_fork=True)
        second = pull.later("comment", "workflow_run", ended)
        assert second.conclusion == "success", second.log
        (comment,) = pull.comments()
        assert f"sha={pull.sha('topic')} run={RUN_ID} attempt=1" in comment
        assert "test_forward" in comment
        assert "easured by code of this pull request" in comment
        assert second.outputs["comment-url"] == pull.github.comments[0]["html_url"]


class TestFirstRun:
    """A pull request that brings the first budget, and a test that fails for another reason."""

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> Scenario:
        files = {**project(width=256), "tests/test_other.py": FAILING}
        pull = open_pull_request({"README.md": "A word.\n"}, files)
        # As for Dependabot, whose token only reads.
        pull.github.faults = [Fault("POST", r".*/comments", 403)]
        return pull

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, pull: Scenario) -> Result:
        return pull.gate(pytest_args="tests -k 'forward or something'", upload="false")

    def test_a_base_without_budgets_is_no_baseline_and_no_failure(self, result: Result) -> None:
        assert result.steps["Measure the base"].conclusion == "success"
        log = result.steps["Measure the base"].log
        # Its pytest is not asked for a folder that it lacks: that would be an error.
        assert "The base does not have tests.\n" in log
        assert "No baseline: pytest found no tests on the base commit" in log
        assert "::warning" not in log
        assert result.outputs["verdict"] == "pass"

    def test_tests_that_fail_for_other_reasons_still_fail_the_job(self, result: Result) -> None:
        assert result.conclusion == "failure"
        assert "tests failed on the head" in result.steps["Gate"].log

    def test_a_comment_that_is_refused_does_not_change_the_verdict(
        self, result: Result, pull: Scenario
    ) -> None:
        assert result.steps["Comment"].conclusion == "success"
        assert result.outputs["comment-url"] == ""
        assert pull.github.writes() == [("POST", f"/repos/{REPOSITORY}/issues/7/comments")]
        log = result.steps["Comment"].log
        assert "403: Resource not accessible by integration; the job needs 'permissions:" in log
        assert "::warning title=Compute budget::The comment was not written" in log

    def test_nothing_is_left_behind_where_that_is_not_wanted(self, pull: Scenario) -> None:
        assert pull.uploads.artifacts == []

    def test_budgets_hold_without_a_baseline(self, result: Result) -> None:
        assert "no baseline" in result.summary.lower()
        assert result.outputs["over-budget"] == "0"


class TestBaselineBranch:
    """`main` costs too much and is recorded so; it moves on twice, and the queue moves it again.

    65 536 MACs at width 512 against 40 000.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> Scenario:
        return open_pull_request(project(width=512), {"README.md": "A word.\n"})

    @pytest.fixture(scope="class")
    @classmethod
    def recorded(cls, pull: Scenario) -> str:
        """The commit that is pushed and recorded."""
        return pull.sha("main")

    @pytest.fixture(scope="class")
    @classmethod
    def pushed(cls, pull: Scenario, recorded: str) -> tuple[Result, Result]:
        payload = push_payload(recorded)
        measured = pull.measure("push", payload, "refs/heads/main", baseline="branch", depth=1)
        return measured, pull.later("baseline", "push", payload, expect="default")

    @pytest.fixture(scope="class")
    @classmethod
    def later(cls, pull: Scenario, recorded: str, pushed: Any) -> Result:
        between = pull.server.commit("main", {"CHANGES.md": "1"})
        newest = pull.server.commit("main", {"CHANGES.md": "2"})
        pull.data.parents = {newest: [between], between: [recorded], recorded: []}
        return pull.gate(baseline="branch")

    @pytest.fixture(scope="class")
    @classmethod
    def queued(cls, pull: Scenario, recorded: str, later: Any) -> tuple[Result, Result]:
        written = len(pull.github.writes())
        payload = merge_group_payload(head_sha=pull.sha("topic"), base_sha=recorded)
        ref = "refs/pull/7/merge"
        measured = pull.measure("merge_group", payload, ref, baseline="branch", depth=1)
        nothing = pull.later("baseline", "merge_group", payload)
        assert len(pull.github.writes()) == written
        return measured, nothing

    def test_a_push_over_budget_fails_and_is_recorded_and_flagged(
        self, pull: Scenario, recorded: str, pushed: Any
    ) -> None:
        measured, record = pushed
        assert measured.outputs["verdict"] == "fail"
        assert measured.conclusion == "failure"
        assert record.conclusion == "success", record.log
        assert ", over budget 1 times (flopbudget-data " in record.log
        files = {f"records/default/{recorded}.json", "history/default.json"}
        assert files <= pull.data.files("flopbudget-data").keys()

    def test_a_push_gets_no_comment_and_measures_no_base(self, pushed: Any) -> None:
        measured, _ = pushed
        assert measured.steps["Measure the base"].conclusion == "skipped"
        assert "No baseline: there is no base to be held against" in measured.log
        assert measured.steps["Comment"].conclusion == "skipped"

    def test_what_the_base_breaks_too_does_not_fail_the_pull_request(self, later: Result) -> None:
        assert later.conclusion == "success", later.log
        assert later.outputs["over-budget"] == "0"
        assert macs(Path(later.outputs["report-path"])) == 128 * 512

    def test_the_comment_says_how_much_older_the_base_is(
        self, pull: Scenario, recorded: str, later: Result
    ) -> None:
        (comment,) = pull.comments()
        assert "2 commits older" in comment
        assert recorded[:7] in comment
        assert "The baseline is 2 commits older than the base." in later.log

    def test_a_merge_group_is_held_against_its_own_base(self, recorded: str, queued: Any) -> None:
        measured, _ = queued
        assert measured.conclusion == "success", measured.log
        assert recorded[:7] in measured.summary
        assert "older" not in measured.summary

    def test_a_merge_group_records_nothing_and_gets_no_comment(self, queued: Any) -> None:
        measured, nothing = queued
        assert measured.steps["Comment"].conclusion == "skipped"
        assert "Nothing is recorded: this is no push to the default branch." in nothing.log


class TestRecords:
    """A push leaves 32 768 MACs behind, in its artifact and in a file; the topic has 65 536.

    The job that measures the topic does not judge it.
    """

    LINE = "Flop-Budget-Accept: tests/test_mlp.py::* macs <= 70000 - a wider model"

    @pytest.fixture(scope="class")
    @classmethod
    def pull(cls, open_pull_request: Opener) -> Scenario:
        return open_pull_request(project(width=256), project(width=512))

    @pytest.fixture(scope="class")
    @classmethod
    def recorded(cls, pull: Scenario) -> tuple[str, str]:
        """The commit that was pushed, and what it left behind."""
        commit = pull.sha("main")
        pull.measure("push", push_payload(commit), "refs/heads/main", baseline="artifact", depth=1)
        (left,) = pull.uploads.artifacts
        # Not the week of others: until it expires it is a baseline.
        assert left.retention_days == "0"
        pull.data.parents = {commit: []}
        pull.data.add_artifact(left.name, commit)
        number = pull.data.artifacts[-1]["id"]
        pull.shown.stored[f"/{number}"] = left.archive
        (leg,) = left.members().values()
        return commit, json.dumps(json.loads(leg)["head"])

    @pytest.fixture(scope="class")
    @classmethod
    def measured(cls, pull: Scenario, recorded: tuple[str, str]) -> Result:
        return pull.gate(baseline="artifact", judge="false")

    @pytest.fixture(scope="class")
    @classmethod
    def judged(cls, pull: Scenario, measured: Result) -> Result:
        return cls.judge(pull)

    @staticmethod
    def judge(pull: Scenario) -> Result:
        event = {"pull_request": _without_label(pull)}
        return pull.later("gate", "pull_request", event, expect="default")

    def test_the_base_is_what_the_push_left(self, measured: Result) -> None:
        assert measured.steps["Measure the base"].conclusion == "skipped"
        head = Path(measured.outputs["report-path"])
        assert macs(head) == 128 * 512
        assert macs(head.with_name("base.json")) == 128 * 256

    def test_the_leg_of_a_matrix_only_measures(self, measured: Result) -> None:
        assert measured.conclusion == "success", measured.log
        assert measured.steps["Judge"].conclusion == "skipped"
        assert measured.steps["Comment"].conclusion == "skipped"
        assert measured.outputs["verdict"] == ""
        assert "::error" not in measured.log
        assert "the job that uses action/gate does that" in measured.steps["Gate"].log

    def test_the_job_after_it_judges(
        self, judged: Result, pull: Scenario, recorded: tuple[str, str]
    ) -> None:
        assert (judged.conclusion, judged.outputs["verdict"]) == ("failure", "fail")
        assert recorded[0][:9] in pull.comments()[0]
        # 65 536 against 32 768.
        assert "+100 %" in pull.comments()[0]

    def test_an_acceptance_turns_everything_green_without_a_new_measurement(
        self, pull: Scenario, judged: Result
    ) -> None:
        pull.accept(self.LINE)
        again = self.judge(pull)
        assert (again.conclusion, again.outputs["verdict"]) == ("success", "accepted"), again.log

    def test_a_file_of_the_base_is_a_baseline_too(
        self, pull: Scenario, recorded: tuple[str, str], judged: Result
    ) -> None:
        pull.server.commit("main", {".flopbudget/baseline.json": recorded[1]})
        result = pull.gate(baseline="file", upload="false")
        assert result.steps["Measure the base"].conclusion == "skipped"
        assert macs(Path(result.outputs["report-path"]).with_name("base.json")) == 128 * 256
        assert result.outputs["verdict"] == "fail"
        assert "+100 %" in result.summary


def test_what_nobody_can_judge_does_not_pass(open_pull_request: Opener) -> None:
    pull = open_pull_request({"README.md": "1"}, PLAIN)
    result = pull.gate(judge="false", upload="false")
    assert result.conclusion == "failure"
    assert "leaves judging to action/gate, which finds nothing" in result.steps["Gate"].log


def test_a_word_that_is_no_false_judges(open_pull_request: Opener) -> None:
    pull = open_pull_request({"README.md": "1"}, PLAIN)
    result = pull.gate(judge="no", baseline="file", comment="never")
    assert (result.conclusion, result.outputs["verdict"]) == ("failure", "nothing-measured")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pytest_args": "--no-such-option"}, "unrecognized arguments: --no-such-option"),
        ({"pytest_args": "-k 'unclosed"}, 'pytest-args: cannot read "-k \'unclosed"'),
        ({"pytest_args": "tests/nothing"}, "file or directory not found"),
    ],
)
def test_a_head_that_cannot_be_measured_fails_without_a_comparison(
    open_pull_request: Opener, given: dict[str, str], message: str
) -> None:
    pull = open_pull_request({"README.md": "1"}, {"README.md": "2"})
    result = pull.gate(**given)
    assert result.conclusion == "failure"
    assert message in result.steps["Measure the head"].log
    assert result.steps["Judge"].conclusion == "skipped"
    assert pull.github.seen == []


def test_a_budgeted_test_that_raises_does_not_pass_the_gate(open_pull_request: Opener) -> None:
    broken = project(width=256)
    broken["src/scratch/model.py"] = "def build():\n    raise RuntimeError('no weights')\n"
    pull = open_pull_request(project(width=256), broken)
    result = pull.gate()
    assert (result.conclusion, result.outputs["verdict"]) == ("failure", "fail")
    assert "::test_forward was not measured: it failed" in result.log
    assert "tests failed on the head" not in result.log


def test_a_base_ref_that_does_not_exist_fails_and_is_named(open_pull_request: Opener) -> None:
    pull = open_pull_request({"README.md": "1"}, PLAIN)
    result = pull.gate(base_ref="no-such-branch")
    assert result.conclusion == "failure"
    assert "base-ref: cannot find 'no-such-branch'" in result.steps["Measure the base"].log


def test_a_head_without_any_budget_fails_and_says_so(open_pull_request: Opener) -> None:
    pull = open_pull_request({"README.md": "1"}, PLAIN)
    result = pull.gate(comment="false")
    assert result.conclusion == "failure"
    assert result.outputs["verdict"] == "nothing-measured"
    assert "Nothing was measured" in result.steps["Gate"].log
    assert result.steps["Comment"].conclusion == "skipped"
