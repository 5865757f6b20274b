"""`flopbudget ab` as users call it, in repositories whose commits differ in known ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from pytest_flopbudget.ab.run import Reports
from pytest_flopbudget.cli import ab as command
from pytest_flopbudget.cli.main import main
from pytest_flopbudget.core.side_by_side import TimedOutcome
from pytest_flopbudget.core.witness import Witness
from pytest_flopbudget.store.files import read_report

MODEL = """
    import time

    def spin(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    def model():
        spin({seconds})
"""
TESTS = """
    import pytest
    from model import model, spin

    @pytest.mark.flop_budget(latency={{"vs_baseline": "+10%"}}, strict=False)
    def test_model():
        model()

    @pytest.mark.flop_budget(latency="1 s", strict=False)
    def test_unchanged(flopbudget):
        flopbudget(spin, 0.002)

    @pytest.mark.flop_budget(latency={{"max": "1 s", "severity": "warn"}}, strict=False)
    def test_mended():
        assert {is_fine}
        spin(0.002)
"""
NEW = """
    @pytest.mark.flop_budget(latency="1 s", strict=False)
    def test_new():
        spin(0.002)
"""
PYPROJECT = """
    [project]
    name = "model"
    version = "1"
    dependencies = ["torch>=2.{minor}"]

    [tool.pytest.ini_options]
    addopts = "-p no:cacheprovider"
"""
SLOWER = 1.4
"""The head's model takes so many times as long, by a clock that no neighbour moves."""


class Repository:
    """A git repository with one package and its tests."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "src").mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments):
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
            cwd=self.directory,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, name, text):
        (self.directory / name).write_text(textwrap.dedent(text))

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change")
        return self.git("rev-parse", "HEAD")

    def state(self):
        """All that a run must leave as it was."""
        return (
            self.git("status", "--porcelain"),
            self.git("worktree", "list"),
            self.git("stash", "list"),
            self.git("for-each-ref"),
        )


def ab(repository, monkeypatch, *arguments):
    monkeypatch.chdir(repository.directory)
    return main(["ab", *arguments])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = Repository(tmp_path_factory.mktemp("repository") / "model")
    repository.write("src/model.py", MODEL.format(seconds=0.002))
    repository.write("test_model.py", TESTS.format(is_fine=False))
    repository.write("pyproject.toml", PYPROJECT.format(minor=10))
    repository.write(".gitignore", "__pycache__\n")
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "change")
    repository.write(
        "test_model.py", textwrap.dedent(TESTS.format(is_fine=True)) + textwrap.dedent(NEW)
    )
    repository.write("pyproject.toml", PYPROJECT.format(minor=11))
    repository.commit()
    # Not committed: the head is the checkout as it stands.
    repository.write("src/model.py", MODEL.format(seconds=0.002 * SLOWER))
    repository.write("untracked.py", "")
    return repository


@pytest.fixture(scope="module")
def run(repository, tmp_path_factory):
    """One run of the command: its exit code, its output and its reports."""
    reports = tmp_path_factory.mktemp("reports")
    before = repository.state()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_flopbudget.cli.main", "ab", "--base=main"),
            *("--time-limit=3 min", f"--reports={reports}", "--", "-q"),
        ],
        cwd=repository.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert repository.state() == before
    assert done.returncode in (0, 1), done.stderr
    return done, read_report(reports / "base.json"), read_report(reports / "head.json")


def test_what_cannot_be_told_ends_with_1_only_where_that_is_asked_for(
    run, tmp_path, monkeypatch, capsys
):
    _, base, head = run
    unstable = [
        replace(test, outcome=TimedOutcome.UNSTABLE)
        for test in head.side_by_side.tests
        if test.test.endswith("test_unchanged")
    ]
    head = replace(head, side_by_side=replace(head.side_by_side, tests=tuple(unstable)))
    monkeypatch.setattr(command, "run_ab", lambda *_, **__: Reports(base=base, head=head))
    monkeypatch.chdir(tmp_path)
    assert main(["ab", "--base=main"]) == 0
    assert "unstable" in capsys.readouterr().out
    assert main(["ab", "--base=main", "--strict-latency"]) == 1


def test_ctrl_c_is_one_line(repository, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_ab", interrupted)
    assert ab(repository, monkeypatch, "--base=main") == 130
    assert capsys.readouterr().err.strip() == "flopbudget ab: interrupted"


@pytest.mark.parametrize(("name", "code"), [("test_mended", 0), ("test_new", 0), ("test_lost", 1)])
def test_what_was_not_timed_is_no_pass_where_that_is_asked_for(
    run, tmp_path, monkeypatch, name, code
):
    _, base, head = run
    (timed,) = [
        test
        for test in head.side_by_side.tests
        if test.test.endswith(name.replace("lost", "unchanged"))
    ]
    untimed = replace(timed, outcome=TimedOutcome.NOT_TIMED, ratio=None, reason="killed")
    # test_mended only warns, and test_new has no base.
    head = replace(head, side_by_side=replace(head.side_by_side, tests=(untimed,)))
    monkeypatch.setattr(command, "run_ab", lambda *_, **__: Reports(base=base, head=head))
    monkeypatch.chdir(tmp_path)
    assert main(["ab", "--base=main"]) == 0
    assert main(["ab", "--base=main", "--strict-latency"]) == code


def test_a_head_that_lacks_an_untracked_file_says_so(repository, monkeypatch, capsys):
    (repository.directory / "model_extra.py").write_text("")
    try:
        repository.write("conftest.py", "import model_extra")
        repository.git("add", "conftest.py")
        assert ab(repository, monkeypatch, "--base=main", "--", "-k", "nothing") == 2
    finally:
        repository.git("rm", "--quiet", "--force", "conftest.py")
        (repository.directory / "model_extra.py").unlink()
    error = capsys.readouterr().err
    assert "pytest ended with 4 on the head" in error
    assert "not in the head: model_extra.py, untracked.py; 'git add' what it needs" in error


@pytest.fixture(scope="module")
def timed(run):
    _, _, head = run
    return {test.test.partition("::")[2]: test for test in head.side_by_side.tests}


def test_a_model_that_got_slower_than_is_allowed_fails_the_command(run, timed):
    done, _, _ = run
    assert timed["test_model"].outcome is TimedOutcome.REGRESSED
    assert done.returncode == 1
    assert "test_model" in done.stdout


def test_the_estimate_is_what_was_put_in(timed):
    ratio = timed["test_model"].ratio
    # The spin itself is exact; what is called around it is the same on both sides, and short.
    assert ratio.estimate == pytest.approx(SLOWER, rel=0.05)
    assert ratio.low > 1
    assert ratio.witness is Witness.CPU
    assert ratio.pairs >= 5


def test_what_did_not_change_is_within_the_growth_that_is_allowed_by_default(timed):
    assert timed["test_unchanged"].outcome is TimedOutcome.WITHIN
    assert timed["test_unchanged"].allowed == pytest.approx(0.05)
    assert timed["test_unchanged"].ratio.estimate == pytest.approx(1, abs=0.05)


def test_a_test_that_failed_on_the_base_is_not_timed(timed):
    assert timed["test_mended"].outcome is TimedOutcome.NOT_TIMED
    assert "on the base, its call failed" in timed["test_mended"].reason


def test_a_new_test_is_not_timed(timed):
    assert timed["test_new"].outcome is TimedOutcome.NOT_TIMED
    assert timed["test_new"].reason == "the test is new: the base does not have it"


def test_the_head_is_the_checkout_with_its_changes(run, repository):
    _, base, head = run
    assert head.side_by_side.is_dirty
    assert head.git.is_dirty
    assert head.side_by_side.base == base.git.commit == repository.git("rev-parse", "main")


def test_what_is_not_in_the_head_is_said(run):
    _, _, head = run
    notes = "\n".join(head.side_by_side.notes)
    assert "not in the head: untracked.py" in notes
    assert "torch>=2.10" in notes
    assert "torch>=2.11" in notes


def test_the_pinned_environment_is_on_record(run):
    _, _, head = run
    assert head.side_by_side.environment["PYTHONHASHSEED"] == "0"
    assert head.side_by_side.environment["OMP_NUM_THREADS"] == "1"


def test_it_says_how_far_it_is(run):
    done, _, _ = run
    assert done.stderr.startswith("counting on the base\ncounting on the head\npair 1 of at most ")


def test_a_folder_that_only_the_head_has_is_new(tmp_path, monkeypatch, capsys):
    repository = Repository(tmp_path / "model")
    repository.write("src/model.py", MODEL.format(seconds=0.001))
    repository.commit()
    (repository.directory / "perf").mkdir()
    repository.write("perf/test_model.py", TESTS.format(is_fine=True))
    repository.write("pyproject.toml", PYPROJECT.format(minor=10))
    repository.commit()
    arguments = ["--base=HEAD~1", "--format=json", "--", "perf", "-k", "test_unchanged"]
    assert ab(repository, monkeypatch, *arguments) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert "the base does not have perf" in str(comparison)
    assert "the test is new: the base does not have it" in str(comparison)


def test_a_side_without_its_own_code_is_refused(tmp_path, monkeypatch, capsys):
    repository = Repository(tmp_path / "model")
    repository.write("src/model.py", MODEL.format(seconds=0.001))
    repository.write(
        "test_model.py",
        f"import sys\nsys.path.insert(0, {str(repository.directory / 'src')!r})\n"
        + textwrap.dedent(TESTS.format(is_fine=True)),
    )
    repository.commit()
    assert ab(repository, monkeypatch, "--base=main", "--", "-k", "test_unchanged") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("flopbudget ab: error: base: model came from ")


def test_a_base_whose_pytest_does_not_run_is_refused_with_what_it_said(
    tmp_path, monkeypatch, capsys
):
    repository = Repository(tmp_path / "model")
    repository.write("conftest.py", "raise RuntimeError('no such luck')")
    repository.commit()
    assert ab(repository, monkeypatch, "--base=HEAD") == 2
    error = capsys.readouterr().err
    assert "pytest ended with 4 on the base" in error
    assert "no such luck" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base=nowhere"], "'nowhere' is no commit that is here"),
        (["--base=main", "--head=nowhere"], "'nowhere' is no commit that is here"),
        (["--base=main", "--time-limit=0"], "--time-limit: give a time above zero"),
        (["--base=main", "--time-limit=5 MB"], "5 MB"),
        (["--base=main", "--output=/nowhere/x"], "/nowhere/x: cannot write: no folder /nowhere"),
        (["--base=main", "--base-python=/nowhere/python"], "cannot run /nowhere/python"),
        (["--base=main", "--setup='"], "--setup: cannot read"),
        (["--base=main", "--setup=no-such-program"], "--setup: cannot run 'no-such-program'"),
        (["--base=main", "--setup=false"], "--setup ended with 1 on the base"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(
    repository, monkeypatch, capsys, arguments, said
):
    before = repository.state()
    assert ab(repository, monkeypatch, *arguments) == 2
    assert said in capsys.readouterr().err
    assert repository.state() == before


def test_outside_a_repository_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert main(["ab", "--base=main"]) == 2
    assert "not a git repository" in capsys.readouterr().err


def test_a_run_that_is_told_to_end_leaves_nothing_behind(repository, tmp_path):
    before = repository.state()
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest_flopbudget.cli.main", "ab", "--base=main"),
            *("--setup", f"{sys.executable} -c 'import time; time.sleep(600)'"),
        ],
        cwd=repository.directory,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr.readline() == "setting up the base\n"
    running.send_signal(signal.SIGTERM)
    started_s = time.monotonic()
    running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - started_s < 60
    assert list(tmp_path.iterdir()) == []
    assert repository.state() == before
