"""What the plugin keeps on pytest's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pytest_flopbudget.session.testrun import TestRun
    from pytest_flopbudget.session.turns import Turns

RUN: Final[pytest.StashKey[TestRun]] = pytest.StashKey()
"""On an item: what it measures."""

COLLECTED: Final[pytest.StashKey[tuple[pytest.Item, ...]]] = pytest.StashKey()
"""On the config: every collected test, from before any is left out until all is planned."""

TURNS: Final[pytest.StashKey[Turns]] = pytest.StashKey()
"""On the config: what a worker of `flopbudget ab` is to time; absent in any other process."""
