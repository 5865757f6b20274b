"""Our count beside those of other counters, as plain text, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.opinion import FLOPS_PER_MAC, Opinion
from pytest_flopbudget.render.words import amount, clean

WIDTH: Final = 80
_COLUMN: Final = 17
_MOST_OTHER: Final = 4
_DIGITS: Final = 4


def render_opinions(
    opinions: Sequence[Opinion], measurement: Measurement, *, width: int = WIDTH
) -> str:
    """The table of counters, and for each of them what its difference from ours is made of."""
    asked = [opinion for opinion in opinions if opinion.total is not None]
    ours = sum(FLOPS_PER_MAC * row.counts.macs for row in measurement.operators)
    rows: list[Sequence[str]] = [
        ("second opinions", "ours", *(opinion.counter for opinion in asked)),
        ("  as it reports it", amount(ours, "flops"), *(amount(o.total, "flops") for o in asked)),
        ("  at 2 FLOP for each MAC", amount(ours, "flops"), *map(_doubled, asked)),
        ("  ratio to ours", "1", *map(_ratio, asked)),
    ]
    label = width - _COLUMN * (len(asked) + 1)
    lines = ["".join((row[0].ljust(label), *(c.rjust(_COLUMN) for c in row[1:]))) for row in rows]
    for opinion in opinions:
        lines += _wrapped(_verdict(opinion), 2, width)
        for part in opinion.differences:
            lines += _wrapped(f"{part.flops:+,} FLOP  {part.operator}: {part.reason}", 4, width)
        if opinion.differences or opinion.unexplained:
            lines += _wrapped(f"not explained: {_signed(opinion.unexplained)}", 4, width)
    return "\n".join([*lines, *_wrapped(_other(measurement), 2, width)]) + "\n"


def _doubled(opinion: Opinion) -> str:
    return amount(opinion.flops, "flops")


def _ratio(opinion: Opinion) -> str:
    """The ratio, with so many digits that only equal counts print as 1."""
    if opinion.ratio is None:
        return "-"
    digits = _DIGITS
    while opinion.flops != opinion.ours and float(f"{opinion.ratio:.{digits}g}") == 1:
        digits += 1
    return f"{opinion.ratio:.{digits}g}"


def _verdict(opinion: Opinion) -> str:
    """Whether the other counter agrees, and the unit that it counts in."""
    if opinion.flops is None:
        return f"{opinion.counter}: {opinion.failure}"
    convention = (
        "counts a multiply-add as 2 FLOP, as we do"
        if opinion.per_mac == FLOPS_PER_MAC
        else "counts a multiply-add as 1 and calls it a FLOP, so doubled here"
    )
    difference = opinion.flops - opinion.ours
    said = f"differs by {_signed(difference)}" if difference else "agrees"
    return f"{opinion.counter} {said}; it {convention}"


def _signed(flops: int) -> str:
    return f"{flops:+,} FLOP" if flops else "0 FLOP"


def _other(measurement: Measurement) -> str:
    """The arithmetic that is no multiply-add, which the others' totals leave out."""
    rest = {
        row.operator: row.counts.flops - FLOPS_PER_MAC * row.counts.macs
        for row in measurement.operators
    }
    spent = sorted(((n, name) for name, n in rest.items() if n > 0), reverse=True)
    if not spent:
        return "ours holds no other arithmetic"
    parts = [f"{name} {n:,}" for n, name in spent[:_MOST_OTHER]]
    if len(spent) > _MOST_OTHER:
        parts.append(f"{len(spent) - _MOST_OTHER} more")
    total = sum(n for n, _ in spent)
    return (
        f"on top of these, our FLOPs hold {total:,} FLOP that are no multiply-adds "
        f"({', '.join(parts)})"
    )


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    """The text in lines of at most the width, the later ones indented under the first."""
    return textwrap.wrap(
        clean(text),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
    )
