"""A regression that somebody takes on, in a line with the test, the metric, a cap and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One line of a pull request that accepts one thing, up to a stated value."""

    tests: str
    """A pattern of test ids, such as `tests/test_net.py::test_*`."""
    metric: str
    """Empty for a test that is removed or skipped."""
    cap: Fraction | None
    """In the metric's base unit; the value up to which it is accepted. None: removed."""
    reason: str
    line: str
    """As it is written."""
    set_by: str = ""
    """Who put the label; empty where that cannot be read."""
