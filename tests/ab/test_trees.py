"""The sides' trees: what is in them, what they leave behind, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_flopbudget.ab.git import GitError, git_in
from pytest_flopbudget.ab.trees import (
    TreeError,
    branch_point,
    checkout,
    checkouts,
    merge_base,
    resolve,
    snapshot,
)

IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "t", "EMAIL": "t@t.test", "DATE": "2026-11-23T10:00:00Z"}.items()
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine that the tests run on, and nobody's name."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in IDENTITY:
        monkeypatch.delenv(name, raising=False)


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(directory: Path, files: Mapping[str, str]) -> str:
    """The sha of a new commit, in a repository that is made when there is none."""
    if not (directory / ".git").exists():
        directory.mkdir(parents=True, exist_ok=True)
        git(directory, "init", "--quiet", "--initial-branch=main")
    write(directory, files)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", "change")
    return git(directory, "rev-parse", "HEAD")


def contents(tree: Path) -> dict[str, str]:
    return {
        str(path.relative_to(tree)): path.read_text()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(tree).parts
    }


def state(repository: Path) -> object:
    """All that a run must not touch: files, index, refs, stashes, settings and worktrees."""
    return (
        contents(repository),
        (repository / ".git/index").read_bytes(),
        git(repository, "for-each-ref"),
        git(repository, "stash", "list"),
        (repository / ".git/config").read_bytes(),
        git(repository, "worktree", "list", "--porcelain"),
        git(repository, "status", "--porcelain=v2", "--ignored"),
    )


class TestCheckout:
    def test_it_has_the_commit_s_files_and_is_gone_afterwards(self, tmp_path: Path) -> None:
        here, parent = tmp_path / "model", tmp_path / "temp"
        parent.mkdir()
        first = commit(here, {"a": "1", "sub/b": "1"})
        commit(here, {"a": "2", "new": "2"})
        before = state(here)
        with checkout(here, first, parent) as tree:
            assert contents(tree.root) == {"a": "1", "sub/b": "1"}
            assert tree.root.is_relative_to(parent)
            assert (tree.directory, tree.commit, tree.notes) == (tree.root, first, ())
            assert git(tree.root, "rev-parse", "HEAD") == first
        assert list(parent.iterdir()) == []
        assert state(here) == before

    def test_both_sides_paths_are_as_long_and_named_as_the_user_s(self, tmp_path: Path) -> None:
        here = tmp_path / "modèle de base"
        first, second = commit(here, {"ä b": "1"}), commit(here, {"ä b": "2"})
        with checkout(here, first) as base, checkout(here, second) as head:
            assert base.root != head.root
            assert base.root.name == head.root.name == "modèle de base"
            assert len(str(base.root)) == len(str(head.root))
            assert contents(base.root) == {"ä b": "1"}
            assert contents(head.root) == {"ä b": "2"}

    def test_a_project_in_a_subfolder_is_found_there(self, tmp_path: Path) -> None:
        here = tmp_path / "mono"
        sha = commit(here, {"paquet é/x": "1"})
        with checkout(here / "paquet é", sha) as tree:
            assert tree.directory == tree.root / "paquet é"
            assert (tree.directory / "x").read_text() == "1"

    def test_a_subfolder_that_the_commit_lacks_is_named(self, tmp_path: Path) -> None:
        here = tmp_path / "mono"
        first = commit(here, {"a": "1"})
        commit(here, {"sub/b": "1"})
        with pytest.raises(TreeError, match=f"^sub/ is not in the commit {first[:7]}$"):
            checkout(here / "sub", first).__enter__()

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_it_is_gone_after_an_exception_too(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        here, parent = tmp_path / "here", tmp_path / "temp"
        parent.mkdir()
        sha = commit(here, {"a": "1"})
        with pytest.raises(error), checkout(here, sha, parent):
            raise error
        assert list(parent.iterdir()) == []
        assert git(here, "worktree", "list").count("\n") == 0

    def test_read_only_directories_that_a_test_left_are_removed(self, tmp_path: Path) -> None:
        here, parent = tmp_path / "here", tmp_path / "temp"
        parent.mkdir()
        sha = commit(here, {"a": "1"})
        with checkout(here, sha, parent) as tree:
            write(tree.root, {"out/x": "1"})
            (tree.root / "out").chmod(0o500)
        assert list(parent.iterdir()) == []
        assert git(here, "worktree", "list").count("\n") == 0

    def test_no_hook_of_the_user_runs_for_it(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        sha = commit(here, {"a": "1"})
        hook = here / ".git/hooks/post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
        hook.chmod(0o755)
        git(here, "checkout", "--quiet", "--detach")
        assert (tmp_path / "ran").exists(), "the control: git does run it"
        (tmp_path / "ran").unlink()
        with checkout(here, sha):
            pass
        assert not (tmp_path / "ran").exists()

    def test_it_works_from_a_linked_worktree_and_within_a_hook_s_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = tmp_path / "here"
        sha = commit(here, {"sub/a": "1"})
        git(here, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
        other = tmp_path / "other"
        commit(other, {"b": "1"})
        monkeypatch.setenv("GIT_DIR", str(other / ".git"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
        with checkout(tmp_path / "linked/sub", sha) as tree:
            assert contents(tree.directory) == {"a": "1"}
        assert snapshot(tmp_path / "linked").commit == sha

    def test_a_sparse_checkout_s_trees_are_as_sparse(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        sha = commit(here, {"kept/a": "1", "left/b": "1", "top": "1"})
        git(here, "sparse-checkout", "set", "kept")
        write(here, {"kept/a": "2"})
        taken = snapshot(here)
        with checkout(here, taken.commit) as tree:
            assert contents(tree.root) == {"kept/a": "2", "top": "1"}
        assert git(here, "show", f"{taken.commit}:left/b") == "1"
        assert sha != taken.commit

    def test_what_git_says_about_a_commit_that_is_not_there_is_passed_on(
        self, tmp_path: Path
    ) -> None:
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        with pytest.raises(GitError, match="fatal: .*" + "0" * 40):
            checkout(here, "0" * 40).__enter__()
        assert git(here, "worktree", "list").count("\n") == 0


KILLED = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, where the tests run under it, ignores it
from pathlib import Path
from pytest_flopbudget.ab.signals import ending_cleanly
from pytest_flopbudget.ab.trees import checkout
with ending_cleanly(), checkout(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])) as tree:
    print("ready", flush=True)
    time.sleep(60)
"""


class TestKilled:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Path:
        (tmp_path / "temp").mkdir()
        commit(tmp_path / "here", {"a": "1"})
        return tmp_path / "here"

    def start(self, here: Path) -> subprocess.Popen[str]:
        sha = git(here, "rev-parse", "HEAD")
        command = [sys.executable, "-c", KILLED, str(here), sha, str(here.parent / "temp")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_request_to_end_leaves_nothing(self, here: Path, number: signal.Signals) -> None:
        with self.start(here) as process:
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        assert list((here.parent / "temp").iterdir()) == []
        assert git(here, "worktree", "list").count("\n") == 0

    def test_what_a_killed_run_left_goes_with_the_next_and_a_live_run_s_stays(
        self, here: Path
    ) -> None:
        sha, temp = git(here, "rev-parse", "HEAD"), here.parent / "temp"
        git(here, "worktree", "add", "--quiet", "--detach", str(here.parent / "moved"))
        (here.parent / "moved").rename(here.parent / "unplugged")
        with self.start(here) as killed:
            killed.kill()
            killed.wait(30)
        (left,) = temp.iterdir()
        with self.start(here) as live:
            assert not left.exists()
            (kept,) = temp.iterdir()
            with checkout(here, sha, temp):
                assert (kept / "here/a").read_text() == "1"
            live.terminate()
        # The user's own, whose directory is away for now, and the main one.
        assert git(here, "worktree", "list").count("\n") == 1
        assert str(here.parent / "moved") in git(here, "worktree", "list")
        assert list(temp.iterdir()) == []


class TestCheckouts:
    def test_all_of_the_user_s_are_told_and_none_of_ours(self, tmp_path: Path) -> None:
        here, linked = tmp_path / "here", tmp_path / "linked ä"
        sha = commit(here, {"sub/a": "1"})
        git(here, "worktree", "add", "--quiet", "--detach", str(linked))
        with checkout(here, sha):
            assert checkouts(here / "sub") == (here, linked)
            assert checkouts(linked) == (linked, here)


class TestSubmodules:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Path:
        """A checkout with a submodule, within it another; of the first, one commit is older."""
        commit(tmp_path / "inner", {"i": "1"})
        commit(tmp_path / "outer", {"o": "1"})
        git(tmp_path / "outer", "submodule", "add", "--quiet", str(tmp_path / "inner"), "deep in")
        commit(tmp_path / "outer", {})
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        git(here, "submodule", "add", "--quiet", str(tmp_path / "outer"), "lib/out er")
        git(here, "submodule", "update", "--quiet", "--init", "--recursive")
        commit(here, {"a": "2"})
        git(here / "lib/out er", "checkout", "--quiet", "-b", "work")
        commit(here / "lib/out er", {"o": "2"})
        commit(here, {"a": "3"})
        return here

    def test_both_sides_have_their_own_from_the_user_s_without_the_network(
        self, here: Path, tmp_path: Path
    ) -> None:
        for name in ("inner", "outer"):
            (tmp_path / name).rename(tmp_path / f"{name} is away")
        base, head = git(here, "rev-parse", "HEAD~1"), git(here, "rev-parse", "HEAD")
        before = state(here)
        outer = here / ".git/modules/lib/out er"
        with checkout(here, base) as old, checkout(here, head) as new:
            files = {"a": "2", "lib/out er/o": "1", "lib/out er/deep in/i": "1"}
            found = contents(old.root)
            assert {name: found.get(name) for name in files} == files
            assert (new.root / "lib/out er/o").read_text() == "2"
            assert (old.notes, new.notes) == ((), ())
            assert git(old.root, "status", "--porcelain") == ""
            assert git(new.root / "lib/out er", "rev-parse", "--show-toplevel") == str(
                new.root / "lib/out er"
            )
        assert state(here) == before
        for module in (outer, outer / "modules/deep in"):
            assert module.is_dir()
            assert not list((module / "worktrees").glob("*"))

    def test_one_that_the_user_has_not_is_empty_and_named(self, here: Path) -> None:
        git(here, "submodule", "--quiet", "deinit", "--force", "--all")
        sha = git(here, "rev-parse", "HEAD")
        with checkout(here, sha) as tree:
            assert list((tree.root / "lib/out er").iterdir()) == []
            assert tree.notes == (
                f"submodule lib/out er is not checked out here: it is empty at {sha[:7]}",
            )

    def test_a_commit_that_the_user_s_has_not_is_fetched(self, here: Path, tmp_path: Path) -> None:
        newer = commit(tmp_path / "outer", {"o": "3"})
        sha = self.pointing_to(here, newer)
        with checkout(here, sha) as tree:
            assert (tree.root / "lib/out er/o").read_text() == "3"

    def test_a_commit_that_cannot_be_had_is_named_with_the_mend(self, here: Path) -> None:
        sha = self.pointing_to(here, "1" * 40)
        pattern = (
            rf"submodule lib/out er: its commit 1111111 of {sha[:7]} is not here \(.*\); "
            rf"fetch it: git -C 'lib/out er' fetch origin {'1' * 40}$"
        )
        with pytest.raises(TreeError, match=pattern):
            checkout(here, sha).__enter__()
        assert git(here, "worktree", "list").count("\n") == 0

    def test_changes_within_one_are_told_to_be_left_out_and_its_new_commit_is_taken(
        self, here: Path
    ) -> None:
        write(here / "lib/out er", {"o": "dirty", "lost": "1"})
        taken = snapshot(here)
        assert (taken.is_dirty, taken.submodules) == (False, ("lib/out er",))
        newer = commit(here / "lib/out er", {})
        taken = snapshot(here)
        assert (taken.is_dirty, taken.submodules) == (True, ())
        with checkout(here, taken.commit) as tree:
            assert git(tree.root / "lib/out er", "rev-parse", "HEAD") == newer
            assert (tree.root / "lib/out er/lost").read_text() == "1"

    def pointing_to(self, here: Path, sha: str) -> str:
        git(here, "update-index", "--cacheinfo", f"160000,{sha},lib/out er")
        git(here, "commit", "--quiet", "--message", "point")
        return git(here, "rev-parse", "HEAD")


class TestSnapshot:
    def test_a_clean_checkout_is_head(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        sha = commit(here, {"a": "1", ".gitignore": "out\n"})
        write(here, {"out/x": "1"})
        (here / "a").touch()
        taken = snapshot(here)
        assert (taken.commit, taken.is_dirty, taken.untracked) == (sha, False, ())

    def test_an_edit_in_the_second_of_the_last_add_is_seen(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        then = (1_600_000_000, 1_600_000_000)
        write(here, {"a": "1"})
        os.utime(here / "a", then)
        sha = commit(here, {})
        git(here, "config", "core.trustctime", "false")
        write(here, {"a": "2"})
        for path in (here / "a", here / ".git" / "index"):
            os.utime(path, then)
        taken = snapshot(here)
        assert taken.commit != sha
        assert git(here, "show", f"{taken.commit}:a") == "2"

    def test_every_kind_of_change_is_in_it_and_nothing_is_touched(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        names = ("edited", "staged", "both", "deleted", "dropped", "renamed", "mode", "ünï")
        head = commit(here, dict.fromkeys(names, "1"))
        write(here, {"staged": "2", "both": "2", "added": "1", "intended": "1", "sub/free": "1"})
        git(here, "add", "staged", "both", "added")
        git(here, "add", "--intent-to-add", "intended")
        write(here, {"edited": "2", "both": "3", "ünï": "2"})
        (here / "deleted").unlink()
        git(here, "rm", "--quiet", "dropped")
        git(here, "mv", "renamed", "moved")
        (here / "mode").chmod(0o755)
        before = state(here)
        taken = snapshot(here / "sub")
        assert state(here) == before
        assert taken.is_dirty
        assert taken.untracked == ("sub/",)
        with checkout(here, taken.commit) as tree:
            assert contents(tree.root) == {
                "added": "1",
                "both": "3",
                "edited": "2",
                "intended": "1",
                "mode": "1",
                "moved": "1",
                "staged": "2",
                "ünï": "2",
            }
            assert os.access(tree.root / "mode", os.X_OK)
        assert git(here, "rev-parse", f"{taken.commit}^@") == head
        assert snapshot(here).commit == taken.commit

    def test_a_file_that_was_only_renamed_is_a_change(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        commit(here, {"old": "some text\n"})
        git(here, "mv", "old", "new")
        taken = snapshot(here)
        assert taken.is_dirty
        assert git(here, "ls-tree", "--name-only", taken.commit) == "new"

    def test_what_git_would_remember_about_a_file_is_not_written(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        commit(here, {"a": "1", "b": "1"})
        write(here, {"a": "2"})
        for name, time_s in (("a", 1_000_000_000), ("b", 1_100_000_000)):
            os.utime(here / name, (time_s, time_s))
        index = (here / ".git/index").read_bytes()
        assert snapshot(here).is_dirty
        assert (here / ".git/index").read_bytes() == index
        git(here, "status")
        assert (here / ".git/index").read_bytes() != index, "the control: git does write it"

    def test_the_same_files_are_the_same_commit_at_any_time(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        write(here, {"a": "2"})
        sha = snapshot(here).commit
        date = IDENTITY["GIT_AUTHOR_DATE"].replace("Z", "+00:00")
        assert git(here, "show", "-s", "--format=%aI %cI", sha) in {
            f"{date} {date}",
            # As newer versions of git write it.
            f"{date} {date}".replace("+00:00", "Z"),
        }

    def test_names_in_no_encoding_are_kept(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        (here / os.fsdecode(b"w\xe9ights")).write_text("1")
        assert snapshot(here).untracked == (os.fsdecode(b"w\xe9ights"),)

    def test_it_takes_no_lock_that_a_commit_at_the_same_time_holds(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        write(here, {"a": "2"})
        (here / ".git/index.lock").touch()
        assert snapshot(here).is_dirty

    def test_what_the_user_s_settings_hide_is_seen(self, tmp_path: Path) -> None:
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        git(here, "config", "status.showUntrackedFiles", "no")
        git(here, "config", "core.autocrlf", "input")
        git(here, "config", "core.safecrlf", "true")
        write(here, {"a": "2\r\n", "new": "1"})
        taken = snapshot(here)
        assert (taken.is_dirty, taken.untracked) == (True, ("new",))

    def conflict(self, here: Path, command: str) -> None:
        commit(here, {"a b": "1"})
        git(here, "checkout", "--quiet", "-b", "topic")
        commit(here, {"a b": "2"})
        git(here, "checkout", "--quiet", "main")
        commit(here, {"a b": "3"})
        git(here, "checkout", "--quiet", "topic")
        subprocess.run(
            ["git", command, "main"],
            cwd=here,
            env={**os.environ, **IDENTITY},
            capture_output=True,
            check=False,  # a conflict is a failure to git
        )

    @pytest.mark.parametrize("command", ["merge", "rebase"])
    def test_a_conflict_is_refused_by_name_until_it_is_resolved(
        self, tmp_path: Path, command: str
    ) -> None:
        here = tmp_path / "here"
        self.conflict(here, command)
        with pytest.raises(GitError, match=r"^a b is in conflict: resolve it and 'git add' it, or"):
            snapshot(here)
        write(here, {"a b": "4"})
        git(here, "add", "a b")
        taken = snapshot(here)
        assert git(here, "show", f"{taken.commit}:a b") == "4"
        # Either way, all that main has is in the history of what is measured.
        main = git(here, "rev-parse", "main")
        assert branch_point(git_in(here), "main", taken.commit).commit == main

    def test_a_repository_without_a_commit_is_refused(self, tmp_path: Path) -> None:
        git(tmp_path, "init", "--quiet")
        with pytest.raises(GitError, match=r"^there is no commit yet: "):
            snapshot(tmp_path)

    def test_a_directory_without_a_repository_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(GitError, match=r"^fatal: not a git repository"):
            snapshot(tmp_path)


class TestBase:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Path:
        r"""fork - third - fourth   (main)
        \
         topic
        """
        here = tmp_path / "here"
        commit(here, {"a": "1"})
        git(here, "checkout", "--quiet", "-b", "topic")
        commit(here, {"b": "1"})
        git(here, "checkout", "--quiet", "main")
        commit(here, {"a": "2"})
        commit(here, {"a": "3"})
        return here

    def sha(self, here: Path, rev: str) -> str:
        return git(here, "rev-parse", rev)

    def test_it_is_where_the_head_left_a_branch_that_moved_on(self, here: Path) -> None:
        fork, tip = self.sha(here, "main~2"), self.sha(here, "main")
        base = branch_point(git_in(here), "main", self.sha(here, "topic"))
        assert base.commit == fork
        assert base.note == (
            f"the base is {fork[:7]}, where the head left main; "
            f"main itself is 2 commits further, at {tip[:7]}"
        )

    @pytest.mark.parametrize("rev", ["main~2", "main"])
    def test_an_ancestor_of_the_head_and_the_head_itself_are_themselves(
        self, here: Path, rev: str
    ) -> None:
        base = branch_point(git_in(here), rev, self.sha(here, "main"))
        assert (base.commit, base.note) == (self.sha(here, rev), None)

    def test_a_base_ahead_of_the_head_is_itself_and_says_so(self, here: Path) -> None:
        base = branch_point(git_in(here), "main", self.sha(here, "main~1"))
        assert base.commit == self.sha(here, "main")
        assert base.note is not None
        assert base.note.startswith("main (")

    def test_histories_that_do_not_meet_are_refused(self, here: Path) -> None:
        git(here, "checkout", "--quiet", "--orphan", "alone")
        alone = commit(here, {"a": "9"})
        with pytest.raises(GitError, match="do not meet here; fetch it first"):
            merge_base(git_in(here), self.sha(here, "main"), alone)

    @pytest.mark.parametrize(
        ("rev", "message"),
        [
            ("mian", "'mian' is no commit that is here; did you mean 'main'?"),
            (
                "origin/HEAD",
                (
                    "'origin/HEAD' is no commit that is here; "
                    "fetch it first, such as with 'git fetch origin main'"
                ),
            ),
            ("--upload-pack=x", "'--upload-pack=x' is no commit"),
        ],
    )
    def test_an_unknown_base_is_named_with_the_mend(
        self, here: Path, rev: str, message: str
    ) -> None:
        with pytest.raises(GitError) as caught:
            resolve(git_in(here), rev)
        assert str(caught.value) == message

    def test_a_shallow_clone_is_told_to_fetch_its_history(self, here: Path) -> None:
        shallow = here.parent / "shallow"
        git(here.parent, "clone", "--quiet", "--depth=1", here.as_uri(), str(shallow))
        for rev in ("origin/topic", "HEAD~1"):
            with pytest.raises(
                GitError, match=f"'{rev}' is no .*: check out with 'fetch-depth: 0'"
            ):
                resolve(git_in(shallow), rev)
        git(shallow, "fetch", "--quiet", "--depth=1", "origin", "topic")
        with pytest.raises(GitError, match="do not meet here; this clone is shallow"):
            branch_point(git_in(shallow), "FETCH_HEAD", self.sha(shallow, "HEAD"))

    def test_no_git_is_one_line(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(GitError, match=r"^git: No such file or directory"):
            resolve(git_in(here), "main")
