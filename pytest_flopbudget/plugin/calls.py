"""Measuring a test that does not say itself what to measure: its own call is the region."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.skipping import xfailed_key  # no public place tells what xfail said at run time
from _pytest.unittest import TestCaseFunction

from pytest_flopbudget.session.testrun import TestRun


def measured_function(item: pytest.Function, run: TestRun) -> Generator[None, Any, Any]:
    """Yields to the call of a test function, counts that, and times it again if asked to."""
    if run.is_handed_out:
        return (yield)
    with run.own_call():
        result = yield
    # The test may have asked for the fixture by name while it ran.
    if not run.is_handed_out and run.wants_latency(""):
        _repeat(item, run)
    return result


@contextmanager
def measured_item(item: pytest.Item, run: TestRun) -> Iterator[None]:
    """A block in which an item that is no plain test function is measured when it runs."""
    if run.is_handed_out:
        yield
    elif isinstance(item, TestCaseFunction):
        with _measured_method(item, run):
            yield
    elif isinstance(item, pytest.Function):
        yield  # pytest_pyfunc_call comes for it, closer to its code
    else:
        run.cannot_repeat("", "only a test function is run again")
        with run.own_call():
            yield


def has_failed(item: pytest.Item) -> bool:
    """Whether a unittest-style test went wrong, which pytest notes on it and raises later."""
    return bool(getattr(item, "_excinfo", None))


def must_not_pass(item: pytest.Item) -> bool:
    """Whether pytest fails the test for passing, and would take a broken budget as its failure."""
    expected = item.stash.get(xfailed_key, None)
    if expected is None or not expected.strict or item.config.getoption("runxfail"):
        return False
    kinds = expected.raises
    if isinstance(kinds, (type, tuple)):
        return issubclass(pytest.fail.Exception, kinds)
    return kinds is None


def _repeat(item: pytest.Function, run: TestRun) -> None:
    """Time the test's own function, with the fixtures that it was called with."""
    if inspect.iscoroutinefunction(item.obj):
        run.cannot_repeat("", "an async test is not run again")
        return
    names = item._fixtureinfo.argnames  # noqa: SLF001 - pytest_pyfunc_call reads it too
    run.repeat(item.obj, {name: item.funcargs[name] for name in names})


@contextmanager
def _measured_method(item: TestCaseFunction, run: TestRun) -> Iterator[None]:
    """A block in which a unittest-style test measures its test method.

    pytest runs such a test with set-up and tear-down in one call, and never calls
    `pytest_pyfunc_call` for it.
    """
    run.cannot_repeat("", "a unittest-style test is not run again")
    method = item.obj
    # unittest looks an async method up on the instance; pytest puts any other there itself.
    item.obj = _counted(method, run)
    setattr(item.instance, item.name, item.obj)
    try:
        yield
    finally:
        item.obj = method
        vars(item.instance).pop(item.name, None)


def _counted(method: Any, run: TestRun) -> Any:
    """The test method, counted when it is called, and with its marks of unittest."""
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def counted_coroutine(*args: Any, **kwargs: Any) -> Any:
            with run.own_call():
                return await method(*args, **kwargs)

        return counted_coroutine

    @functools.wraps(method)
    def counted(*args: Any, **kwargs: Any) -> Any:
        with run.own_call():
            return method(*args, **kwargs)

    return counted
