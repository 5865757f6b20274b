"""A worker's part in a pair: it runs the tests that it is told, and takes turns when asked.

What is said, a line of JSON each, between the worker and the process that conducts it:

    conductor   {"tests": {ID: [REGION, ...], ...}, "core": CORE or null}
                                                           once, before anything is collected
    worker      {"ready": REGION, "test": ID, "is_call": BOOL, "is_traced": BOOL,
                 "core": CORE or null}                     the one that it runs on alone
    conductor   {"slices": K, "calls": N}                  so many calls in each slice
                or {"go": "on"}                            to the test's end
    worker      {"ran": [SLICE, ...]}, its fields by name, or {"raised": TEXT}
    worker      {"end": ID, "why": TEXT, "untimed": {REGION: TEXT}, "modules": {NAME: FILE}}
    worker      the same, with an empty ID                 once, when no more tests come
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from pytest_flopbudget.session.channel import Channel, ChannelClosedError
from pytest_flopbudget.session.cores import stay_on
from pytest_flopbudget.session.variable import TURNS

if TYPE_CHECKING:
    from pytest_flopbudget.meters.slices import SliceTimer


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is timed."""

    test: str
    region: str
    is_call: bool
    """Whether the region is the whole call of the test."""


@final
class Turns:
    """What this worker is to time, and the way to whoever asks for it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        asked = channel.receive()
        tests: dict[str, list[str]] = asked["tests"]
        self.tests = tests
        """The regions to time of each test, in the order in which the tests are to run."""
        self._asked_core: int | None = asked.get("core")
        self._core: int | None = None
        self._told_modules: set[str] = set()

    def share_core(self) -> None:
        """From now on, run on the core alone that was asked for, if any was and it may."""
        if self._asked_core is not None:
            with contextlib.suppress(OSError):
                stay_on(self._asked_core)
                self._core = self._asked_core

    def wants(self, test_id: str, region: str) -> bool:
        """Whether this region is to be timed."""
        return region in self.tests.get(test_id, ())

    def take(
        self,
        place: Place,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Call `fn` as often as the conductor asks, until it says to go on.

        What `fn` raises is told to the conductor, and not raised: the test itself went well.
        """
        from pytest_flopbudget.meters.slices import SliceTimer

        self._channel.send(
            {
                "ready": place.region,
                "test": place.test,
                "is_call": place.is_call,
                "is_traced": sys.gettrace() is not None,
                "core": self._core,
            }
        )
        with SliceTimer(fn, args, kwargs) as timer:
            while "calls" in (asked := self._channel.receive()):
                self._channel.send(_answer(timer, asked["slices"], asked["calls"]))

    def end(self, test_id: str, *, why: str, untimed: Mapping[str, str]) -> None:
        """Tell that a test has ended.

        why: what failed, empty where nothing did.
        untimed: by region, why it cannot be called again.
        """
        self._channel.send(
            {"end": test_id, "why": why, "untimed": dict(untimed), "modules": self._new_modules()}
        )

    def finish(self) -> None:
        """Tell that no more tests come. A conductor that has heard enough is gone by then."""
        with contextlib.suppress(ChannelClosedError):
            self.end("", why="", untimed={})

    def _new_modules(self) -> dict[str, str]:
        """Where each module is from that was imported since this was last asked for.

        That is its file, or the first folder of a package that has none.
        """
        files: dict[str, str] = {}
        for name, module in list(sys.modules.items()):
            folders = getattr(module, "__path__", None) or ()
            file = getattr(module, "__file__", None) or next(iter(folders), None)
            # torch.classes says that it is of `_classes.py`, which is nowhere.
            if isinstance(file, str) and Path(file).is_absolute():
                files[name] = file
        new = {name: file for name, file in files.items() if name not in self._told_modules}
        self._told_modules.update(new)
        return new


def _answer(timer: SliceTimer, slices: int, calls: int) -> dict[str, Any]:
    try:
        taken = [timer.run(calls) for _ in range(slices)]
    except Exception as error:
        told = str(error).partition("\n")[0]
        return {"raised": f"{type(error).__name__}: {told}"}
    return {"ran": [asdict(piece) for piece in taken]}


def inherited_turns(environ: MutableMapping[str, str] = os.environ) -> Turns | None:
    """The turns that this process was started to take; None for any other process.

    The variable is taken out, as a process that a test starts is no worker.
    """
    text = environ.pop(TURNS, "")
    if not text:
        return None
    reader, _, writer = text.partition(",")
    return Turns(Channel(int(reader), int(writer)))
