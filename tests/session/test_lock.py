"""The lock that keeps timed tests apart, among real processes that may be killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_flopbudget.core.errors import LockError
from pytest_flopbudget.session.lock import machine_lock

TAKES_TURNS = """
import fcntl, os, sys
from pathlib import Path
from pytest_flopbudget.session.lock import machine_lock

folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(300):
    with machine_lock(folder), (folder / "inside").open("a") as inside:
        # Raises if another process is inside as well.
        fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for _ in range(10):
            os.sched_yield()  # lets the others run, so that they come in if they can
"""
HOLDS = """
import os, sys
from pathlib import Path
from pytest_flopbudget.session.lock import machine_lock

with machine_lock(Path(sys.argv[1])):
    # A child as data loaders have them: it inherits what is open, and outlives its parent.
    child = os.fork()
    if child:
        print(child, flush=True)
    sys.stdin.read()
"""


def _start(script: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _is_held(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_file(folder: Path) -> Path:
    return folder / f"pytest-flopbudget-{os.getuid()}.lock"


def test_processes_are_in_the_block_one_at_a_time(tmp_path: Path) -> None:
    processes = [_start(TAKES_TURNS, tmp_path) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_a_killed_holder_gives_it_back_though_a_child_of_it_lives_on(tmp_path: Path) -> None:
    holder = _start(HOLDS, tmp_path)
    assert holder.stdout is not None
    assert holder.stdin is not None
    child = int(holder.stdout.readline())
    try:
        assert _is_held(_lock_file(tmp_path))
        holder.kill()
        holder.wait(timeout=60)
        os.kill(child, 0)  # raises where it is gone
        assert not _is_held(_lock_file(tmp_path))
    finally:
        holder.stdin.close()  # which ends the child
        holder.stdout.close()


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), machine_lock(tmp_path):
        raise ZeroDivisionError
    assert not _taken_elsewhere(tmp_path)


def test_a_block_within_a_block_leaves_it_taken(tmp_path: Path) -> None:
    with machine_lock(tmp_path):
        with machine_lock(tmp_path):
            pass
        # Closing the file a second time would have given it back.
        assert _taken_elsewhere(tmp_path)
    assert not _taken_elsewhere(tmp_path)


def _taken_elsewhere(folder: Path) -> bool:
    """Whether another process finds it taken."""
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'a')\n"
        "try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(1)\n"
    )
    command = [sys.executable, "-c", script, _lock_file(folder)]
    return subprocess.run(command, check=False).returncode == 1


def test_threads_of_one_process_are_kept_apart_too(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def take_turns() -> None:
        for _ in range(200):
            with machine_lock(tmp_path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=take_turns) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(most) == 600
    assert max(most) == 1


def test_the_file_is_for_this_user_alone(tmp_path: Path) -> None:
    with machine_lock(tmp_path):
        assert _lock_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_link_that_somebody_laid_there_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    _lock_file(tmp_path).symlink_to(victim)
    said = r"\.lock: cannot be locked, .* remove it, or set TMPDIR"
    with pytest.raises(LockError, match=said), machine_lock(tmp_path):
        pass
    assert not victim.exists()


def test_a_file_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    _lock_file(tmp_path).touch()
    said = "it is not a file of this user's"
    with pytest.raises(LockError, match=said), machine_lock(tmp_path):
        pass


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    said = r"gone/pytest-flopbudget-.*No such file"
    with pytest.raises(LockError, match=said), machine_lock(tmp_path / "gone"):
        pass
