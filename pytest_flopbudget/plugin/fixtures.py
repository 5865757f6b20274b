"""The fixtures: `flopbudget` for everything, and one for each thing alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_flopbudget.plugin.options import read_options
from pytest_flopbudget.plugin.state import RUN

if TYPE_CHECKING:
    from pytest_flopbudget.meters.counter import FlopCounter
    from pytest_flopbudget.meters.latency import LatencyTimer
    from pytest_flopbudget.meters.memory import MemoryTracker
    from pytest_flopbudget.session.testrun import TestRun


class SwitchedOff:
    """What the `flopbudget` fixture is under --flopbudget=off: code runs, nothing is measured."""

    def __call__(
        self, fn: Callable[..., Any], /, *args: Any, name: str | None = None, **kwargs: Any
    ) -> Any:
        """What `fn(*args, **kwargs)` returns."""
        del name
        return fn(*args, **kwargs)

    @contextmanager
    def region(self, name: str = "") -> Iterator[None]:
        """A block that runs as if it stood alone."""
        del name
        yield

    def fake(self) -> AbstractContextManager[None]:
        """A block of fake tensors all the same: the test's model may need them to fit."""
        from pytest_flopbudget.meters.fake import fake

        return fake()

    def record(self, metric: str, value: float, *, better: str = "lower") -> None:
        """Record nothing."""

    def __getattr__(self, name: str) -> NoReturn:
        """There is no value to assert on, so the test is skipped."""
        if name.startswith("_"):
            raise AttributeError(name)
        pytest.skip(f"flopbudget.{name} is not measured: --flopbudget=off")


@pytest.fixture
def flopbudget(request: pytest.FixtureRequest) -> TestRun | SwitchedOff:
    """Measures what the test says, and holds it to the test's budgets.

    `flopbudget(fn, *args, name=None, **kwargs)` counts one call and returns its result;
    `with flopbudget.region("name"):` counts a block; `with flopbudget.fake():` makes models
    that take no memory; `flopbudget.record("accuracy", x)` adds a metric;
    `flopbudget.flops` and the like read the latest measurement.
    """
    if read_options(request.config).mode == "off":
        return SwitchedOff()
    run: TestRun | None = request.node.stash.get(RUN, None)
    if run is None:
        from pytest_flopbudget.core.errors import MeasureError

        raise MeasureError(
            f"{request.node.name}: asks for flopbudget while it runs, so that nothing follows it; "
            "name the fixture as an argument, or in pytest.mark.usefixtures"
        )
    run.hand_out()
    return run


@pytest.fixture
def flop_counter() -> FlopCounter:
    """A context manager that counts a block: `with flop_counter: ...; flop_counter.flops`."""
    from pytest_flopbudget.meters.counter import FlopCounter

    return FlopCounter()


@pytest.fixture
def latency_timer() -> LatencyTimer:
    """A timer: `latency_timer(fn, *args).median` is in seconds, with its interval.

    No other test of this machine is timed at the same time.
    """
    from pytest_flopbudget.meters.latency import LatencyTimer
    from pytest_flopbudget.session.lock import machine_lock

    return LatencyTimer(exclusive=machine_lock)


@pytest.fixture
def memory_tracker() -> MemoryTracker:
    """A context manager for memory: `with memory_tracker: ...; memory_tracker.peak_memory`."""
    from pytest_flopbudget.meters.memory import MemoryTracker

    return MemoryTracker()
