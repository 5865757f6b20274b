"""A request to end is an exception, once, and only where nobody else has a say in it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pytest_flopbudget.ab.signals import ending_cleanly

REQUESTS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def as_a_process_starts() -> Iterator[None]:
    """The signals end the process, also where what runs the tests has it otherwise."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in REQUESTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", REQUESTS)
def test_a_second_request_does_not_disturb_the_cleaning_up(number: signal.Signals) -> None:
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            for again in REQUESTS:
                os.kill(os.getpid(), again)
            cleaned.append(True)

    with pytest.raises(SystemExit) as ended, ending_cleanly():
        work()
    assert cleaned == [True]
    assert ended.value.code == 128 + number
    assert [signal.getsignal(one) for one in REQUESTS] == [signal.SIG_DFL] * 2


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending_cleanly():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_thread_that_gets_no_signals_is_left_alone() -> None:
    seen = []

    def block() -> None:
        with ending_cleanly():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
