"""The plugin's markers: declared here, and read here alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pytest_flopbudget.core.markers import Marker
    from pytest_flopbudget.core.settings import ProjectSettings

_SHORTHANDS: Final = {"latency_budget": "latency", "memory_budget": "peak_memory"}
"""Markers that bound one metric by their only argument."""
_MISSPELT: Final = r"(flops?|macs?|latency|latencies|memory)_?budgets?"
"""What nobody calls a marker of his own; pytest would let the test pass with a warning."""

_DECLARED: Final = (
    (
        'flop_budget(*names, region="", name=None, strict=None, **limits): what the test may cost; '
        'names of budgets in pyproject.toml, and limits such as flops="3.7 GFLOP"'
    ),
    'latency_budget(limit): the same as flop_budget(latency="45 ms")',
    'memory_budget(limit): the same as flop_budget(peak_memory="90 MiB")',
)


def declare_markers(config: pytest.Config) -> None:
    """Make the markers known, also to --strict-markers."""
    for line in _DECLARED:
        config.addinivalue_line("markers", line)


def has_marker(item: pytest.Item) -> bool:
    """Whether one of the markers, or nearly one, stands on the test, its class or its module."""
    return any(
        mark.name == "flop_budget" or mark.name in _SHORTHANDS or re.fullmatch(_MISSPELT, mark.name)
        for mark in item.iter_markers()
    )


def marked_budgets(item: pytest.Item, settings: ProjectSettings) -> list[Marker]:
    """The budgets of all markers on the test, the closest first.

    Raises SettingsError, naming the test, for a marker with a mistake in it.
    """
    from pytest_flopbudget.core.markers import read_marker

    return [
        read_marker(args, kwargs, settings=settings, where=f"{item.nodeid}: @{name}")
        for name, args, kwargs in _marks(item)
    ]


def _marks(item: pytest.Item) -> Iterator[tuple[str, tuple[Any, ...], Mapping[str, Any]]]:
    from pytest_flopbudget.core.errors import SettingsError, nearest

    # pytest puts the marks of one case of a parametrised test behind those of the whole test.
    of_case = getattr(item, "callspec", None)
    case = frozenset(id(mark) for mark in ([] if of_case is None else of_case.marks))
    for mark in sorted(item.iter_markers(), key=lambda mark: id(mark) not in case):
        if mark.name == "flop_budget":
            yield mark.name, mark.args, mark.kwargs
        elif mark.name in _SHORTHANDS:
            if len(mark.args) != 1:
                raise SettingsError(
                    f"{item.nodeid}: @{mark.name}: takes one limit; write it as "
                    f"@pytest.mark.{mark.name}({_EXAMPLES[mark.name]!r})"
                )
            yield mark.name, (), {_SHORTHANDS[mark.name]: mark.args[0], **mark.kwargs}
        elif re.fullmatch(_MISSPELT, mark.name):
            near = nearest(mark.name, ("flop_budget", *_SHORTHANDS))
            raise SettingsError(f"{item.nodeid}: @{mark.name}: did you mean @{near}?")


_EXAMPLES: Final = {"latency_budget": "45 ms", "memory_budget": "90 MiB"}
