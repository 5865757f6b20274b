"""Baselines from the data branch, from artifacts and from a committed file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_flopbudget.ab.git import git_in
from pytest_flopbudget.core.codec import report_to_json
from pytest_flopbudget.core.legs import Leg
from pytest_flopbudget.core.report import Git, Report
from pytest_flopbudget.github.artifacts import Artifact
from pytest_flopbudget.github.baselines import artifact, branch, file
from pytest_flopbudget.github.baselines.ancestry import first_parents
from pytest_flopbudget.github.baselines.branch import Store
from pytest_flopbudget.github.baselines.history import History, extended
from pytest_flopbudget.github.rest import Client, GitHubError

from ..builders import budgeted, limit, measured, reported
from .api_mock import REPOSITORY, Fault, GitHub
from .conftest import FakeTime
from .mock_git import GitData
from .repositories import ALONE, Server, git

DATA = "flopbudget-data"


def sha(number: int) -> str:
    return f"{number:040x}"


def report(macs: int, *, commit: int = 0) -> Report:
    test = budgeted("t.py::test_a", measured(macs={"": macs}), limits=(limit("macs", 100),))
    return reported(test, git=Git(commit=sha(commit), branch="main", is_dirty=False))


def leg(macs: int, *, commit: int = 0, name: str = "default") -> Leg:
    return Leg(name=name, head=report(macs, commit=commit))


@pytest.fixture
def data(github: GitHub) -> GitData:
    """A repository whose commits 9, 8, ... 1 follow one another."""
    return GitData(github, parents={sha(n): [sha(n - 1)] if n > 1 else [] for n in range(9, 0, -1)})


@pytest.fixture
def store(client: Client) -> Store:
    return Store(client=client, repository=REPOSITORY)


def write(store: Store, time: FakeTime, *legs: Leg, commit: int) -> None:
    branch.write_baselines(store, legs, sha(commit), sleep=time.sleep)


class TestAncestry:
    def test_first_parents_leave_out_what_was_merged(self, data: GitData, client: Client) -> None:
        data.parents = {sha(5): [sha(3), sha(4)], sha(4): [sha(2)], sha(3): [sha(2)], sha(2): []}
        assert list(first_parents(client, REPOSITORY, sha(5))) == [sha(5), sha(3), sha(2)]

    def test_a_parent_on_the_next_page_is_found(self, data: GitData, client: Client) -> None:
        merged = {sha(1000 + n): [] for n in range(150)}
        data.parents = {sha(2): [sha(1), sha(1000)], **merged, sha(1): []}
        assert list(first_parents(client, REPOSITORY, sha(2))) == [sha(2), sha(1)]

    def test_at_most_fifty_older_commits_are_looked_at(self, data: GitData, client: Client) -> None:
        data.parents = {sha(n): [sha(n - 1)] for n in range(200, 0, -1)}
        found = list(first_parents(client, REPOSITORY, sha(200)))
        assert (len(found), found[-1]) == (51, sha(150))

    def test_the_commit_itself_is_known_without_a_request(
        self, data: GitData, github: GitHub, client: Client
    ) -> None:
        assert next(first_parents(client, REPOSITORY, sha(9))) == sha(9)
        assert github.seen == []


class TestBranch:
    def test_what_was_written_is_read(self, data: GitData, store: Store, time: FakeTime) -> None:
        write(store, time, leg(10, commit=8), leg(20, commit=8, name="gpu"), commit=8)
        found = branch.read_baseline(store, "gpu", sha(8))
        assert found.report == report(20, commit=8)
        assert (found.age, found.missing) == (0, "")
        assert data.files(DATA).keys() == {
            f"records/default/{sha(8)}.json",
            f"records/gpu/{sha(8)}.json",
            "history/default.json",
            "history/gpu.json",
        }

    def test_the_branch_begins_without_a_parent_and_grows_by_one_commit(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        write(store, time, leg(10), commit=1)
        first = data.refs[f"refs/heads/{DATA}"]
        write(store, time, leg(11), commit=2)
        second = data.refs[f"refs/heads/{DATA}"]
        assert data.commits[first]["parents"] == []
        assert [parent["sha"] for parent in data.commits[second]["parents"]] == [first]

    def test_writing_the_same_again_changes_nothing(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        write(store, time, leg(10), commit=1)
        before = data.refs.copy()
        write(store, time, leg(10), commit=1)
        assert data.refs == before

    def test_an_older_commit_stands_in_and_its_age_is_said(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        write(store, time, leg(10, commit=3), commit=3)
        write(store, time, leg(11, commit=5), commit=5)
        found = branch.read_baseline(store, "default", sha(7))
        assert found.report == report(11, commit=5)
        assert found.age == 2

    def test_a_newer_commit_or_another_leg_never_stands_in(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        write(store, time, leg(10, commit=9), leg(10, commit=9, name="gpu"), commit=9)
        write(store, time, leg(10, commit=7, name="gpu"), commit=7)
        found = branch.read_baseline(store, "default", sha(8))
        assert found.report is None
        assert found.missing == (
            f"flopbudget-data has no record of {sha(8)[:7]} or of the commits before it"
        )

    def test_a_branch_that_is_not_there_is_no_error(self, data: GitData, store: Store) -> None:
        found = branch.read_baseline(store, "default", sha(8))
        assert found.missing == "there is no branch flopbudget-data yet"

    def test_the_history_comes_along_oldest_first(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        for commit, macs in ((1, 10), (2, 30), (3, 20)):
            write(store, time, leg(macs, commit=commit), commit=commit)
        (series,) = branch.read_baseline(store, "default", sha(3)).history
        assert (series.test, series.region, series.metric) == ("t.py::test_a", "", "macs")
        assert series.values == (10, 30, 20)

    def test_only_the_records_of_the_last_hundred_commits_are_kept(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        history = History()
        for n in range(100):
            history = extended(history, sha(n), report(n))
        records = {f"records/default/{sha(n)}.json": "{}" for n in range(100)}
        other = {f"records/gpu/{sha(0)}.json": "{}", "README.md": "words"}
        text = json.dumps(branch.history_to_json(history))
        data.put(DATA, {**records, **other, "history/default.json": text})
        write(store, time, leg(7), commit=100)
        kept = data.files(DATA)
        assert f"records/default/{sha(0)}.json" not in kept
        assert f"records/default/{sha(1)}.json" in kept
        assert f"records/default/{sha(100)}.json" in kept
        assert other.items() <= kept.items()
        assert len(kept) == 100 + 2 + 1

    def test_what_somebody_else_wrote_meanwhile_is_kept(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        data.put(DATA, {"README.md": "1"})
        data.before_write = [lambda: data.put(DATA, {"README.md": "2"}) and None] * 2
        write(store, time, leg(10, commit=4), commit=4)
        assert data.files(DATA)["README.md"] == "2"
        assert f"records/default/{sha(4)}.json" in data.files(DATA)
        assert time.slept == [1.0, 2.0]

    def test_a_branch_that_somebody_else_began_meanwhile_is_kept(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        data.before_write = [lambda: data.put(DATA, {"README.md": "2"}) and None]
        write(store, time, leg(10), commit=4)
        assert data.files(DATA).keys() >= {"README.md", f"records/default/{sha(4)}.json"}

    def test_a_branch_that_moves_all_the_time_is_given_up(
        self, data: GitData, store: Store, time: FakeTime
    ) -> None:
        data.put(DATA, {"README.md": "0"})
        count = iter(range(1, 99))
        data.before_write = [lambda: data.put(DATA, {"n": str(next(count))}) and None] * 99
        with pytest.raises(GitHubError, match=r"flopbudget-data: moved 6 times while 0000000 was"):
            write(store, time, leg(10), commit=4)
        assert data.files(DATA) == {"README.md": "0", "n": "6"}

    def test_no_write_is_forced(
        self, data: GitData, github: GitHub, store: Store, time: FakeTime
    ) -> None:
        write(store, time, leg(10), commit=1)
        write(store, time, leg(10), commit=2)
        (moved,) = [seen for seen in github.seen if seen.method == "PATCH"]
        assert moved.body["force"] is False

    def test_a_refused_write_is_said_and_not_repeated(
        self, data: GitData, github: GitHub, store: Store, time: FakeTime
    ) -> None:
        github.faults = [Fault("POST", r".*/git/refs", 403)]
        with pytest.raises(GitHubError, match=r"POST /repos/octo/models/git/refs: .* 403"):
            write(store, time, leg(10), commit=1)
        assert data.refs == {}

    @pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 99}'])
    def test_a_record_that_is_none_is_named(self, data: GitData, store: Store, text: str) -> None:
        data.put(DATA, {f"records/default/{sha(9)}.json": text})
        with pytest.raises(Exception, match=rf"records/default/{sha(9)}.json"):
            branch.read_baseline(store, "default", sha(9))

    @pytest.mark.parametrize("name", ["a b", "../main", "", "x?y"])
    def test_a_name_that_would_change_the_address_is_refused(
        self, client: Client, name: str
    ) -> None:
        with pytest.raises(GitHubError, match=r"baseline-branch: .* is no name of a branch"):
            Store(client=client, repository=REPOSITORY, branch=name)


class TestHistory:
    def test_a_commit_that_is_measured_again_keeps_its_place(self) -> None:
        history = History()
        for commit, macs in ((1, 10), (2, 20), (1, 15)):
            history = extended(history, sha(commit), report(macs))
        assert history.series()[0].values == (15, 20)

    def test_two_hundred_commits_are_kept_and_a_test_that_is_gone_goes_with_them(self) -> None:
        gone = reported(
            budgeted("t.py::test_old", measured(macs={"": 5}), limits=(limit("macs", 9),))
        )
        history = extended(History(), sha(0), gone)
        for n in range(1, 200):
            history = extended(history, sha(n), report(n))
        assert {one.test for one in history.series()} == {"t.py::test_old", "t.py::test_a"}
        history = extended(history, sha(200), report(200))
        (series,) = history.series()
        assert series.values == tuple(range(1, 201))
        assert len(history.commits) == 200

    def test_only_budgeted_deterministic_metrics_are_kept(self) -> None:
        test = budgeted(
            "t.py::test_a",
            measured(macs={"": 4}, flops=8, latency=0.5),
            limits=(limit("macs", 9), limit("latency", 1)),
        )
        (series,) = extended(History(), sha(1), reported(test)).series()
        assert series.metric == "macs"


class TestArtifact:
    @pytest.fixture
    def kept(self, monkeypatch: pytest.MonkeyPatch) -> dict[int, Leg]:
        """The legs by the id of their artifact; that they are read with care is tested apart."""
        legs: dict[int, Leg] = {}

        def download(client: Client, repository: str, found: Artifact) -> Leg:
            assert repository == REPOSITORY
            return legs[found.id]

        monkeypatch.setattr(artifact, "download_leg", download)
        return legs

    def read(self, client: Client, commit: int) -> artifact.Baseline:
        return artifact.read_baseline(
            client, REPOSITORY, "default", sha(commit), default_branch="main"
        )

    def test_a_run_on_the_default_branch_is_a_baseline(
        self, data: GitData, client: Client, kept: dict[int, Leg]
    ) -> None:
        made = data.add_artifact("flopbudget-default", sha(6))
        kept[made["id"]] = leg(12, commit=6)
        found = self.read(client, 8)
        assert (found.report, found.age) == (report(12, commit=6), 2)

    def test_the_newest_of_one_commit_is_taken(
        self, data: GitData, client: Client, kept: dict[int, Leg]
    ) -> None:
        for macs in (12, 13):
            made = data.add_artifact("flopbudget-default", sha(6))
            kept[made["id"]] = leg(macs, commit=6)
        assert self.read(client, 6).report == report(13, commit=6)

    @pytest.mark.parametrize(
        "other",
        [
            {"head_repository_id": 12},
            {"head_branch": "topic"},
            {"expired": True},
            {"workflow_run": None},
        ],
        ids=["fork", "branch", "expired", "no run"],
    )
    def test_an_artifact_of_anything_else_never_is(
        self, data: GitData, client: Client, kept: dict[int, Leg], other: dict[str, object]
    ) -> None:
        data.add_artifact("flopbudget-default", sha(8), **other)
        found = self.read(client, 8)
        assert found.report is None
        assert found.missing.startswith("no artifact flopbudget-default of main is of ")

    def test_a_merge_of_the_default_branch_into_another_is_no_baseline(
        self, data: GitData, client: Client, kept: dict[int, Leg]
    ) -> None:
        made = data.add_artifact("flopbudget-default", sha(8))
        kept[made["id"]] = leg(12, commit=77)
        found = self.read(client, 8)
        assert found.report is None
        assert found.missing.endswith("is of another commit")


class TestFile:
    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
        for name, value in ALONE.items():
            monkeypatch.setenv(name, value)
        return Server(tmp_path / "server")

    def test_the_base_s_own_file_is_read_and_not_the_head_s(self, server: Server) -> None:
        where = '[tool.flopbudget]\nbaseline = "{}"\n'
        mine = json.dumps(report_to_json(report(10)))
        base = server.commit(
            "main", {"models/pyproject.toml": where.format("b.json"), "models/b.json": mine}
        )
        theirs = json.dumps(report_to_json(report(99)))
        server.commit(
            "topic",
            {
                "models/pyproject.toml": where.format("c.json"),
                "models/b.json": theirs,
                "models/c.json": theirs,
            },
        )
        here = git_in(server.directory)
        assert file.read_baseline(here, base, "models/").report == report(10)

    def test_settings_above_the_working_directory_count(self, server: Server) -> None:
        base = server.commit(
            "main",
            {
                "pyproject.toml": "",
                ".flopbudget/baseline.json": json.dumps(report_to_json(report(10))),
                "sub/a": "1",
            },
        )
        assert file.read_baseline(git_in(server.directory), base, "sub/").report == report(10)

    @pytest.mark.parametrize(
        ("files", "missing"),
        [
            ({"a": "1"}, r"has no pyproject.toml"),
            ({"pyproject.toml": ""}, r"\.flopbudget/baseline.json is not in the base commit"),
            ({"pyproject.toml": "[tool.flopbudget]\nx = 1"}, r"settings .* cannot be read: "),
        ],
    )
    def test_a_base_without_one_is_no_baseline(
        self, server: Server, files: dict[str, str], missing: str
    ) -> None:
        base = server.commit("main", files)
        found = file.read_baseline(git_in(server.directory), base, "")
        assert found.report is None
        assert re.search(missing, found.missing)

    def test_a_file_that_is_no_report_is_named(self, server: Server) -> None:
        base = server.commit("main", {"pyproject.toml": "", ".flopbudget/baseline.json": "{"})
        with pytest.raises(GitHubError, match=rf"{base[:7]}:\.flopbudget/baseline.json: not JSON"):
            file.read_baseline(git_in(server.directory), base, "")

    def test_git_is_asked_for_no_path_that_looks_like_an_option(self, server: Server) -> None:
        base = server.commit("main", {"pyproject.toml": '[tool.flopbudget]\nbaseline = "--x"\n'})
        found = file.read_baseline(git_in(server.directory), base, "")
        assert found.missing == f"--x is not in the base commit {base[:7]}"
        assert git(server.directory, "status", "--porcelain") == ""
