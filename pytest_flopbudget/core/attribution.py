"""Which modules and operators spent a metric, and which moved it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopbudget.core.measurement import COUNTED, Measurement
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import format_quantity

TOP_LEVEL = "(top level)"
"""What stands for the root module, and for code under no module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one operator spent under one module, or how much more than before."""

    path: str
    """Dotted; ``""`` is the root module, and code under no module."""
    operator: str
    amount: int
    """In the metric's base unit; of a change, negative where less is spent."""

    @property
    def place(self) -> str:
        """The module's path, for people."""
        return self.path or TOP_LEVEL


def spenders(measurement: Measurement, metric: str, most: int = 3) -> tuple[Share, ...]:
    """The operators that spent the most of the metric, largest first; at most `most`.

    Empty for a metric that does not add up over modules, such as a latency.
    """
    return _largest(_amounts(measurement, metric))[:most]


def movers(base: Measurement | None, head: Measurement | None, metric: str) -> tuple[Share, ...]:
    """What each operator spends more, or less, in `head` than in `base`: largest first.

    Those that spend the same are left out. A side that is None spent nothing. Empty
    for a metric that does not add up over modules.
    """
    before, after = _amounts(base, metric), _amounts(head, metric)
    places = {**after, **before}
    return _largest({place: after.get(place, 0) - before.get(place, 0) for place in places})


def describe_share(share: Share, dimension: Dimension, *, signed: bool = False) -> str:
    """`layer4.0.conv2 (aten.convolution) 420 MFLOP`, or `...: +420 MFLOP` where signed."""
    place = f"{share.place} ({share.operator})"
    if signed:
        return f"{place}: {format_signed(share.amount, dimension)}"
    return f"{place} {format_quantity(share.amount, dimension)}"


def format_signed(amount: int, dimension: Dimension) -> str:
    """The amount with its sign, also where it is positive."""
    return f"{'+' if amount > 0 else ''}{format_quantity(amount, dimension)}"


def _amounts(measurement: Measurement | None, metric: str) -> dict[tuple[str, str], int]:
    """The metric by module path and operator, in the order of first use."""
    if measurement is None or metric not in COUNTED:
        return {}
    amounts: dict[tuple[str, str], int] = {}
    for module in measurement.modules:
        for row in module.operators:
            place = (module.path, row.operator)
            amounts[place] = amounts.get(place, 0) + getattr(row.counts, metric)
    return amounts


def _largest(amounts: dict[tuple[str, str], int]) -> tuple[Share, ...]:
    """The amounts that are not zero, largest first; equal ones in the order given."""
    shares = (
        Share(path=path, operator=operator, amount=amount)
        for (path, operator), amount in amounts.items()
        if amount
    )
    return tuple(sorted(shares, key=lambda share: -abs(share.amount)))
