"""The pytest plugin: options, markers, fixtures, and hooks that call the session.

Loading it imports nothing but pytest. The hooks that follow tests are registered when
a collected test has a budget or asks for the fixture; until then it costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

import pytest

from pytest_flopbudget.plugin.fixtures import (
    flop_counter,
    flopbudget,
    latency_timer,
    memory_tracker,
)
from pytest_flopbudget.plugin.markers import declare_markers, has_marker
from pytest_flopbudget.plugin.options import add_options, is_controller, read_options
from pytest_flopbudget.plugin.state import COLLECTED, TURNS
from pytest_flopbudget.session import variable

if TYPE_CHECKING:
    from pytest_flopbudget.plugin.hooks import RunHooks

__all__ = ["flop_counter", "flopbudget", "latency_timer", "memory_tracker"]

_HOOKS: Final = "flopbudget-run"
"""The name under which the hooks that follow tests are registered."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; follow tests from the start where settings or options ask for it.

    The controller of xdist collects nothing, so it has to listen in any case.
    """
    declare_markers(config)
    options = read_options(config)
    if options.update:
        from pytest_flopbudget.plugin.update import check_update

        check_update(options)
    if options.mode == "off":
        return
    if _takes_turns(config) or options.needs_hooks or is_controller(config) or _mentions_us(config):
        _follow(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Note what was collected, before anything is left out or put in another order."""
    config.stash[COLLECTED] = tuple(items)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start to follow tests when one of them has a budget or asks for the fixture.

    Also when that one is left out of the run, so that the report says so.
    """
    config = session.config
    collected = config.stash.get(COLLECTED, ())
    config.stash[COLLECTED] = ()
    if read_options(config).mode == "off":
        return
    hooks = config.pluginmanager.get_plugin(_HOOKS)
    if hooks is None and any(_is_ours(item) for item in collected):
        hooks = _follow(config)
    if hooks is not None:
        hooks.plan(session, collected)


def _is_ours(item: pytest.Item) -> bool:
    return has_marker(item) or "flopbudget" in getattr(item, "fixturenames", ())


def _takes_turns(config: pytest.Config) -> bool:
    """Whether this process is a worker of `flopbudget ab`, which is then told what to run."""
    if variable.TURNS not in os.environ:
        return False
    from pytest_flopbudget.plugin.turns import TurnHooks
    from pytest_flopbudget.session.turns import inherited_turns

    turns = inherited_turns()
    if turns is None:
        return False
    config.stash[TURNS] = turns
    config.pluginmanager.register(TurnHooks(config, turns))
    return True


def _mentions_us(config: pytest.Config) -> bool:
    """Whether the project's settings file may hold settings of ours; a look, no parse."""
    try:
        return b"flopbudget" in (config.rootpath / "pyproject.toml").read_bytes()
    except OSError:
        return False


def _follow(config: pytest.Config) -> RunHooks:
    """Register the hooks that follow tests.

    Raises pytest.UsageError for a mistake in the settings, before any test runs.
    """
    from pytest_flopbudget.plugin.hooks import RunHooks

    hooks = RunHooks(config)
    config.pluginmanager.register(hooks, _HOOKS)
    if read_options(config).update:
        from pytest_flopbudget.plugin.update import UpdateHooks

        config.pluginmanager.register(UpdateHooks(config, hooks))
    return hooks
