"""The table: for every rule, how often it flags each growth, with what is claimed below it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from power.cases import WORKLOADS
from power.outcomes import Measured, Place, Row, rows_at
from power.rates import Rate
from power.records import Record
from power.rules import ALLOWED

CONDITIONS = ("quiet", "noisy")
FALSE_ALARMS = 0.01
POWER = {"quiet": 0.95, "noisy": 0.90}
AT = 5
"""The growth in per cent at which the power is claimed."""


def render(records: Sequence[Record]) -> str:
    """Everything that the raw results say, as Markdown."""
    lines = list(_setup(records))
    for workload in WORKLOADS:
        for condition in CONDITIONS:
            lines += _at(Place(workload, condition), records)
    return "\n".join(lines) + "\n"


def _setup(records: Sequence[Record]) -> Iterator[str]:
    yield from dict.fromkeys(r["text"] for r in records if r["kind"] == "setup")
    for record in records:
        if record["kind"] == "true":
            yield (
                f"In one process {record['name']} takes {100 * record['growth']:+.2f} % "
                f"(standard error {100 * record['error']:.2f} %)."
            )


def _at(place: Place, records: Sequence[Record]) -> Iterator[str]:
    measured = Measured(place, records)
    rows = rows_at(place, records, measured)
    if not rows:
        return
    growths = sorted({growth for row in rows for growth in row.groups})
    yield f"\n### {place.workload}, {place.condition}\n"
    if measured.repetitions:
        yield _beside(measured) + "\n"
    heads = [*map(_growth, growths), "timed, s a side", "pairs, by growth"]
    yield "| flagged | " + " | ".join(heads) + " |"
    yield "| --- |" + " ---: |" * (len(growths) + 2)
    for row in rows:
        cells = [_cell(row.rate(growth)) for growth in growths]
        yield f"| {row.name} | " + " | ".join([*cells, f"{row.seconds:.2f}", _pairs(row)]) + " |"
    yield ""
    yield from _claims(place, rows)


def _beside(measured: Measured) -> str:
    bias, error = measured.bias
    sure = "" if error is None else f" (standard error {100 * error:.2f} %)"
    records = measured.records
    pairs, seconds = (statistics.fmean(r[key] for r in records) for key in ("pairs", "seconds"))
    sides = " or ".join(f"{side_s:g}" for side_s in sorted({r["side_s"] for r in records}))
    clocks = ", ".join(f"{clock} {count}" for clock, count in measured.clocks.items())
    return (
        f"{len(records)} repetitions of ours: each {pairs:.1f} pairs with {sides} s of each side "
        f"and {seconds:.0f} s in all, for every case together. A call takes "
        f"{measured.call_s * 1e3:.1f} ms. A/A: {100 * bias:+.2f} %{sure}, standard deviation "
        f"{100 * measured.spread:.2f} % between pairs, correlation {measured.correlation:.2f} "
        f"within a repetition; clock: {clocks}."
    )


def _growth(growth: int) -> str:
    return f"+{growth} %" if growth else "A/A"


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return "-"
    return (
        f"{rate.hits}/{rate.trials} = {100 * rate.share:.1f} % "
        f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    )


def _pairs(row: Row) -> str:
    """The mean number for each growth; nothing where there are no pairs of processes."""
    if not row.name.startswith("ours"):
        return ""
    return " ".join(
        f"{statistics.fmean(trial.pairs for trial in row.trials(growth)):.1f}"
        for growth in sorted(row.groups)
    )


def _claims(place: Place, rows: Sequence[Row]) -> Iterator[str]:
    ours = next((row for row in rows if row.name.startswith("ours")), None)
    if ours is None:
        return
    alarms, power = ours.rate(0), ours.rate(AT)
    if alarms is not None:
        met = [share <= FALSE_ALARMS for share in (alarms.high, alarms.share, alarms.low)]
        yield _claim("false alarms", alarms, f"<= {100 * FALSE_ALARMS:.0f} %", met)
    if power is not None:
        least = POWER[place.condition]
        met = [share >= least for share in (power.low, power.share, power.high)]
        yield _claim(f"power at {_growth(AT)}", power, f">= {100 * least:.0f} %", met)
    unstable = [
        f"{count} of {len(ours.trials(growth))} at {_growth(growth)}"
        for growth in sorted(ours.groups)
        if (count := ours.unstable(growth))
    ]
    yield f"- unstable, and so not gated: {', '.join(unstable) or 'none'}"
    better = [text for row in rows if row.name != ours.name for text in _better(row, ours)]
    yield f"- a peer does better: {'; '.join(better) or 'in no cell'}"


def _claim(what: str, rate: Rate, target: str, met: Sequence[bool]) -> str:
    """A target, and whether it is met: by the worse end of the interval, the share, the better."""
    surely, as_counted, perhaps = met
    verdict = "met" if as_counted else "missed"
    if not surely and perhaps:
        verdict += " as counted, by too few trials to be sure"
    return (
        f"- {what}: {100 * rate.share:.1f} %, {100 * rate.low:.1f} to {100 * rate.high:.1f} % "
        f"with 95 % confidence, {rate.hits} of {rate.trials}; target {target}: {verdict}"
    )


def _better(row: Row, ours: Row) -> Iterator[str]:
    """The cells in which another rule does better, with its false alarms.

    A growth below what is allowed is none that has to be found.
    """
    if row.name.startswith("ours"):
        return
    alarms = row.rate(0)
    for growth in sorted(row.groups):
        theirs, own = row.rate(growth), ours.rate(growth)
        if theirs is None or own is None or 0 < growth < 100 * ALLOWED[0]:
            continue
        is_better = theirs.share < own.share if growth == 0 else theirs.share > own.share
        if is_better:
            shares = f"{100 * theirs.share:.0f} % against {100 * own.share:.0f} %"
            cost = f" (false alarms {100 * alarms.share:.0f} %)" if alarms and growth else ""
            yield f"{row.name} at {_growth(growth)}: {shares}{cost}"
