"""What each rule said in each repetition, by condition, workload and growth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from power.cases import Case
from power.rates import Rate, design_effect, rate, within_groups
from power.records import Record, Series, read_series
from power.rules import ALLOWED, PEERS, decided, tolerances
from pytest_flopbudget.core.ratios import estimate, log_ratio
from pytest_flopbudget.core.series import TurnSeries
from pytest_flopbudget.core.stopping import State
from pytest_flopbudget.core.witness import witness

PAIRS_AT_LEAST = 3
"""No case is decided by fewer, so that all have so many to be compared by."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule is tried."""

    workload: str
    condition: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What one rule said of one case."""

    is_flagged: bool
    seconds: float
    """Of each side, timed."""
    pairs: int = 1
    is_unstable: bool = False


@dataclass(slots=True)
class Row:
    """One rule at one place."""

    name: str
    groups: dict[int, list[list[Trial]]] = field(default_factory=dict)
    """By growth, the trials of each repetition."""
    correlation: float = 0.0
    """Of the trials of one repetition, which share their processes."""

    def trials(self, growth: int) -> list[Trial]:
        """All trials of this growth."""
        return [trial for group in self.groups.get(growth, []) for trial in group]

    def unstable(self, growth: int) -> int:
        """How many of them were called unstable."""
        return sum(trial.is_unstable for trial in self.trials(growth))

    def rate(self, growth: int) -> Rate | None:
        """How often this growth was flagged; None where it was never tried."""
        trials = self.trials(growth)
        if not trials:
            return None
        size = len(trials) / len(self.groups[growth])
        effect = design_effect(self.correlation, math.ceil(size))
        return rate(sum(trial.is_flagged for trial in trials), len(trials), effect)

    @property
    def seconds(self) -> float:
        """Timed of each side: the mean over the growths."""
        return statistics.fmean(
            statistics.fmean(trial.seconds for trial in self.trials(growth))
            for growth in self.groups
        )


class Measured:
    """What `ours` measured at one place, for what is said beside its rates."""

    def __init__(self, place: Place, records: Sequence[Record]) -> None:
        self.records = [
            record
            for record in records
            if record["kind"] == "ours" and record["condition"] == place.condition
        ]
        self.repetitions: list[dict[Case, Series]] = [
            {
                case: read_series(test)
                for name, test in record["tests"].items()
                if (case := Case.named(name)).workload == place.workload
            }
            for record in self.records
        ]

    @cached_property
    def same(self) -> list[list[Series]]:
        """The series of what has not grown, by repetition."""
        return [
            [series for case, series in repetition.items() if case.growth == 0]
            for repetition in self.repetitions
        ]

    @cached_property
    def logs(self) -> list[list[list[float]]]:
        """The logarithms of these: by repetition, copy and pair."""
        return [[_logs(series) for series in copies] for copies in self.same]

    @property
    def spread(self) -> float:
        """The standard deviation between the first pairs of one case.

        Of these alone, as the rules stop where the pairs happen to agree.
        """
        return math.sqrt(
            statistics.fmean(
                statistics.variance(logs[:PAIRS_AT_LEAST])
                for copies in self.logs
                for logs in copies
            )
        )

    @property
    def correlation(self) -> float:
        """How much the copies of one repetition resemble each other in what is estimated."""
        size = min((len(copies) for copies in self.logs), default=0)
        return within_groups(
            [
                [statistics.fmean(logs[:PAIRS_AT_LEAST]) for logs in copies[:size]]
                for copies in self.logs
            ]
        )

    @property
    def bias(self) -> tuple[float, float | None]:
        """The mean ratio of what has not grown, less 1, and its standard error.

        A single repetition has no error that could be known.
        """
        means = [
            statistics.fmean(statistics.fmean(logs[:PAIRS_AT_LEAST]) for logs in copies)
            for copies in self.logs
        ]
        error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None
        return math.expm1(statistics.fmean(means)), error

    @property
    def call_s(self) -> float:
        """Seconds of one call."""
        return statistics.median(
            estimate(series, 0.95).base_s for copies in self.same for series in copies
        )

    @property
    def clocks(self) -> dict[str, int]:
        """How often each clock was the witness."""
        found = [witness(series).value for copies in self.same for series in copies]
        return {clock: found.count(clock) for clock in sorted(set(found))}


def rows_at(place: Place, records: Sequence[Record], measured: Measured) -> list[Row]:
    """Every rule that was tried at this place, ours first."""
    rows = [_our_row(allowed, measured) for allowed in ALLOWED]
    rows += _peer_rows(place, records)
    return [row for row in rows if row.groups]


def _our_row(allowed: float, measured: Measured) -> Row:
    row = Row(f"ours, > {100 * allowed:.0f} %", correlation=measured.correlation)
    for repetition in measured.repetitions:
        group: dict[int, list[Trial]] = {}
        for case, series in repetition.items():
            if allowed in tolerances(case):
                group.setdefault(case.growth, []).append(our_trial(series, allowed))
        _add(row, group)
    return row


def our_trial(series: Series, allowed: float) -> Trial:
    """What the rules of `flopbudget ab` say of one case.

    Raises ValueError where these pairs are too few for them.
    """
    answer = decided(series, allowed)
    if answer is None:
        raise ValueError(
            f"{len(series)} pairs do not decide a growth of {allowed:.0%}: these results are of "
            "other rules; measure anew"
        )
    state, pairs = answer
    return Trial(
        is_flagged=state is State.REGRESSED,
        seconds=math.fsum(seconds for pair in series[:pairs] for seconds in _turn_seconds(pair)),
        pairs=pairs,
        is_unstable=state is State.UNSTABLE,
    )


def _turn_seconds(pair: TurnSeries) -> Iterator[float]:
    """Of one side, the mean of both; of what both did at once, without the other's part."""
    for turn in pair.turns:
        yield (turn.base.wall_s + turn.head.wall_s) / 2
    for turn in pair.shared_turns:
        yield (turn.base.cpu_s + turn.head.cpu_s) / 2


def _peer_rows(place: Place, records: Sequence[Record]) -> Iterator[Row]:
    for environment in ("default", "pinned"):
        found = [
            record
            for record in records
            if record["kind"] == "peers"
            and record["condition"] == place.condition
            and record["environment"] == environment
        ]
        for name, is_flagged in PEERS.items():
            row = Row(f"{name}, {environment}")
            for record in found:
                group: dict[int, list[Trial]] = {}
                for case_name, test in record["tests"].items():
                    case = Case.named(case_name)
                    if case.workload == place.workload:
                        seconds = (test["base_total"] + test["head_total"]) / 2
                        trial = Trial(is_flagged=is_flagged(test), seconds=seconds)
                        group.setdefault(case.growth, []).append(trial)
                _add(row, group)
            yield row


def _add(row: Row, group: dict[int, list[Trial]]) -> None:
    for growth, trials in group.items():
        row.groups.setdefault(growth, []).append(trials)


def _logs(series: Series) -> list[float]:
    clock = witness(series)
    return [log_ratio(pair, clock) for pair in series]
