"""A fresh process of pytest on one side, which times its tests when it is asked to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final, final

from pytest_flopbudget.ab.side import Side
from pytest_flopbudget.core.errors import FlopBudgetError
from pytest_flopbudget.core.series import Slice
from pytest_flopbudget.session.channel import Channel, ChannelClosedError
from pytest_flopbudget.session.variable import TURNS

_OURS: Final = ("--flopbudget=report",)
"""Behind the user's own: no budget fails a test here, where only time is taken."""
_ONE_PROCESS: Final = ("-n0",)
"""Of pytest-xdist: the worker itself runs the tests, whatever the project's addopts say."""
_SAID_LAST: Final = 3
_PATIENCE_S: Final = 10.0
"""For a worker that was told to go on, to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A worker has come to a region, and waits for its turns."""

    test: str
    region: str
    is_call: bool
    """Whether the region is the whole call of the test."""
    is_traced: bool
    core: int | None
    """The one that it runs on alone; None where it may have several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A test has ended on one side."""

    test: str
    why: str
    """What failed in it; empty where nothing did."""
    untimed: Mapping[str, str]
    """By region, why it cannot be called again."""
    modules: Mapping[str, str]
    """The file of each module that was imported since the last test."""


@lru_cache
def _has_xdist(python: str) -> bool:
    """Whether this Python's pytest would hand its tests to other processes, if told to."""
    if python == sys.executable:
        return find_spec("xdist") is not None
    command = [python, "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('xdist'))"]
    done = subprocess.run(command, check=False)  # noqa: S603 - the side's own Python, no shell
    return done.returncode == 0


class WorkerEndedError(FlopBudgetError):
    """A worker has ended before its tests had; says how, and what it printed last."""


class CallRaisedError(FlopBudgetError):
    """The code under test raised when it was called again."""


@final
class Worker:
    """One process of pytest; a context manager that ends it."""

    def __init__(
        self,
        side: Side,
        tests: Mapping[str, Sequence[str]],
        core: int | None,
    ) -> None:
        """Start it.

        tests: the regions to time of each test, in the order in which the tests are to run.
        core: the one to run the tests on, or None for all.
        """
        self.side = side
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        alone = _ONE_PROCESS if _has_xdist(side.python) else ()
        self._process = subprocess.Popen(  # noqa: S603 - the user's own tests, and no shell
            side.pytest([*_OURS, *alone]),
            cwd=side.directory,
            env={**side.environ, TURNS: f"{read_there},{write_there}"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=(read_there, write_there),
            start_new_session=True,
        )
        os.close(read_there)
        os.close(write_there)
        self._channel = Channel(read_here, write_here)
        asked = {test: list(regions) for test, regions in tests.items()}
        self._say({"tests": asked, "core": core})

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if exc_type is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        # With all that it started itself.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._channel.close()
        self._log.close()

    def next(self, timeout_s: float) -> Ready | Ended:
        """What the worker comes to next.

        Raises WorkerEndedError, and ChannelSilentError after so many seconds.
        """
        message = self._hear(timeout_s)
        if "ready" in message:
            return Ready(
                test=message["test"],
                region=message["ready"],
                is_call=message["is_call"],
                is_traced=message["is_traced"],
                core=message.get("core"),  # a plugin of before this was said runs on several
            )
        return Ended(
            test=message["end"],
            why=message["why"],
            untimed=message["untimed"],
            modules=message["modules"],
        )

    def start(self, slices: int, calls: int) -> None:
        """Have it begin slices of the region that it waits at, each of so many calls.

        Raises WorkerEndedError.
        """
        self._say({"slices": slices, "calls": calls})

    def finish(self, timeout_s: float) -> list[Slice]:
        """The slices that it has begun.

        Raises CallRaisedError, WorkerEndedError, and ChannelSilentError.
        """
        message = self._hear(timeout_s)
        if "raised" in message:
            raise CallRaisedError(message["raised"])
        return [Slice(**piece) for piece in message["ran"]]

    def go_on(self) -> None:
        """Let the worker leave the region that it waits at. Raises WorkerEndedError."""
        self._say({"go": "on"})

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            self._channel.send(message)
        except ChannelClosedError:
            raise self._ended() from None

    def _hear(self, timeout_s: float) -> dict[str, Any]:
        try:
            return self._channel.receive(timeout_s)
        except ChannelClosedError:
            raise self._ended() from None

    def _ended(self) -> WorkerEndedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = " / ".join(line.strip() for line in lines[-_SAID_LAST:] if line.strip())
        code = self._process.returncode
        return WorkerEndedError(
            f"pytest of the {self.side.name} {_how_ended(code)}: {said or 'no output'}"
        )


def _how_ended(code: int | None) -> str:
    if code is None:
        return "does not end"
    if code >= 0:
        return f"ended with {code}"
    killed = f"was killed by {signal.Signals(-code).name}"
    return f"{killed} (out of memory?)" if -code == signal.SIGKILL else killed
