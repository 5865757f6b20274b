"""A process that shares a core has every thread of it there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flopbudget.session import cores
from pytest_flopbudget.session.cores import core_of_pair

THREADS = """
import os, sys, threading
from pytest_flopbudget.session.cores import stay_on

end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
stay_on(int(sys.argv[1]))
later = threading.Thread(target=end.wait)
later.start()
seen = [os.sched_getaffinity(one) for one in (0, thread.native_id, later.native_id)]
end.set()
print(seen)
"""


def test_each_pair_has_the_next_core_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores.os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {5, 2, 3}, raising=False)
    assert [core_of_pair(pair) for pair in range(4)] == [2, 3, 5, 2]


def test_a_system_without_the_setting_has_no_core_for_a_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(cores.os, "sched_setaffinity", raising=False)
    assert core_of_pair(0) is None


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(),
    reason="only Linux lists the threads of a process; elsewhere there is no core to stay on",
)
def test_threads_of_before_and_of_later_stay_on_the_core() -> None:
    core = core_of_pair(0)
    printed = subprocess.run(
        [sys.executable, "-c", THREADS, str(core)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert printed.strip() == str([{core}] * 3)
