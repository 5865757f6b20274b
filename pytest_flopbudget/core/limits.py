"""Limits as they are written: a quantity, or a table of bounds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core.budgets import Limit, Severity, Tolerance
from pytest_flopbudget.core.errors import QuantityError, SettingsError, nearest
from pytest_flopbudget.core.metrics import (
    METRICS,
    NOT_MEASURED_YET,
    UNCOUNTED,
    Dimension,
    Kind,
    Metric,
    metric_named,
)
from pytest_flopbudget.core.quantity import bounded, exact, parse_change, parse_quantity

_KEYS: Final = (
    "max",
    "min",
    "equals",
    "tolerance",
    "vs_baseline",
    "ratio_to",
    "on",
    "severity",
)
_BOUNDS: Final = frozenset({"max", "min", "equals", "vs_baseline"})
_SEVERITIES: Final = tuple(severity.value for severity in Severity)
_ARGUMENTS: Final = frozenset({"name", "region", "strict"})
"""What a marker takes beside metrics."""
_PROJECTED: Final = re.compile(r"(latency|energy|cost)@.")
"""Metrics of a target device, such as `latency@T4`."""

_LIKENESS: Final = 0.78
"""As difflib measures it, between `throughput` and its misspellings, not `throughput_tokens`."""
_LIKENESS_TO_PLANNED: Final = 0.85
_ALIASES: Final = {
    "memory": "peak_memory",
    "mem": "peak_memory",
    "ram": "peak_memory",
    "activations": "activation_memory",
    "bytes": "bytes_moved",
    "traffic": "bytes_moved",
    "intensity": "arithmetic_intensity",
    "parameters": "params",
    "size": "model_size",
    "operators": "ops",
    "time": "latency",
    "runtime": "latency",
    "duration": "latency",
    "p95": "latency_p95",
    "p99": "latency_p99",
}
"""Words that people try first, and that are too unlike the metric's name to be found by likeness.
"""


def parse_limit(metric: str, raw: object, *, where: str, machines: Collection[str]) -> Limit:
    """The limit that `raw`, a quantity or a table, puts on the metric.

    `where` is the path of the table or marker that holds it, and becomes the
    limit's source; `machines` are the names that `on` may have. Raises
    SettingsError: `WHERE.METRIC[.KEY]: ...`.
    """
    reader = _Reader(metric=metric_named(metric), path=f"{where}.{metric}", machines=machines)
    _check_metric(metric, reader.path)
    if reader.metric.unfit:
        raise SettingsError(
            f"{reader.path}: '{metric}' is shown, and takes no budget: {reader.metric.unfit}"
        )
    if isinstance(raw, Mapping):
        return reader.table(raw, source=where)
    return Limit(metric=metric, maximum=reader.quantity(raw, reader.path), source=where)


def _check_metric(metric: str, path: str) -> None:
    """Refuse a name that is reserved, or so like a metric that it was meant to be one."""
    if metric in METRICS:
        return
    if metric in _ARGUMENTS:
        raise SettingsError(f"{path}: '{metric}' is no metric; write it in the marker")
    if metric == UNCOUNTED.name:
        raise SettingsError(f"{path}: 'strict' decides about uncounted operators, not a limit")
    if metric in NOT_MEASURED_YET or _PROJECTED.match(metric):
        raise SettingsError(f"{path}: this version does not measure '{metric}'")
    word = metric.lower()
    meant = _ALIASES.get(word) or _likest(word, METRICS, _LIKENESS)
    if meant:
        raise SettingsError(
            f"{path}: no metric is called '{metric}'; write '{meant}', "
            "or give what the test records itself a name less like it"
        )
    # Stricter, as a name with a word in common, such as flops_per_token, is free to use.
    planned = _likest(word, sorted(NOT_MEASURED_YET), _LIKENESS_TO_PLANNED)
    if planned:
        raise SettingsError(f"{path}: this version does not measure '{planned}'")


def _likest(word: str, known: Iterable[str], cutoff: float) -> str | None:
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return close[0] if close else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the parts of one limit, and knows where each was written."""

    metric: Metric
    path: str
    machines: Collection[str]

    def table(self, raw: Mapping[str, object], *, source: str) -> Limit:
        """The limit of a table; every key is checked before any value."""
        self._check_keys(raw)
        # Against another measurement the two bounds are shares of it, and bear no unit.
        bounded = Dimension.ONE if "ratio_to" in raw else None
        maximum, minimum, equals = (
            self.quantity(raw[key], f"{self.path}.{key}", bounded) if key in raw else None
            for key in ("max", "min", "equals")
        )
        if equals is not None and (maximum is not None or minimum is not None):
            raise SettingsError(
                f"{self.path}: 'equals' leaves no room for 'max' or 'min'; "
                "write one or the other, with 'tolerance' for a range around 'equals'"
            )
        if maximum is not None and minimum is not None and minimum > maximum:
            raise SettingsError(f"{self.path}: min {raw['min']} is more than max {raw['max']}")
        limit = Limit(
            metric=self.metric.name,
            maximum=maximum,
            minimum=minimum,
            equals=equals,
            tolerance=self._tolerance(raw),
            vs_baseline=self._change(raw, "vs_baseline"),
            ratio_to=self._text(raw, "ratio_to"),
            on=self._one_of(raw, "on", "machine", self.machines),
            severity=Severity(self._one_of(raw, "severity", "severity", _SEVERITIES) or "error"),
            source=source,
        )
        self._check_room(limit)
        return limit

    def _check_room(self, limit: Limit) -> None:
        """Refuse what only the processor that it was measured on can hold."""
        if self.metric.kind is not Kind.MACHINE:
            return
        instead = None
        if limit.equals is not None and (limit.tolerance is None or not limit.tolerance.amount):
            instead = "'equals' needs a 'tolerance' above 0, such as '10%'"
        elif limit.vs_baseline is not None and limit.vs_baseline <= 0:
            instead = "'vs_baseline' needs room, such as '+10%'"
        if instead:
            raise SettingsError(
                f"{self.path}: '{self.metric.name}' depends on {self.metric.varies_with}: "
                f"{instead}, or write 'activation_memory', which is exact"
            )

    def quantity(self, raw: object, path: str, dimension: Dimension | None = None) -> Fraction:
        """The amount in the metric's base unit; what a test records may be negative."""
        if isinstance(raw, bool) or not isinstance(raw, str | int | float):
            raise SettingsError(f"{path}: cannot read {raw!r}; write a quantity or a table")
        is_recorded = self.metric.kind is Kind.RECORDED and dimension is None
        try:
            if is_recorded and not isinstance(raw, str):
                return bounded(raw, exact(raw))
            return parse_quantity(raw, dimension or self.metric.dimension)
        except QuantityError as error:
            note = f", as the test records '{self.metric.name}' itself" if is_recorded else ""
            raise SettingsError(f"{path}: {error}{note}") from None

    def _check_keys(self, raw: Mapping[str, object]) -> None:
        for key in raw:
            check_key(key, _KEYS, self.path)
        keys = frozenset(raw)
        fault = None
        if not keys & _BOUNDS:
            fault = "bounds nothing; write 'max', 'min', 'equals' or 'vs_baseline'"
            if "ratio_to" in keys:
                fault = "'ratio_to' needs the greatest or least ratio; write 'max' or 'min'"
        elif "tolerance" in keys and "equals" not in keys:
            fault = "'tolerance' is of 'equals'; write that too, or 'max' alone"
        elif "ratio_to" in keys and keys & {"equals", "vs_baseline"}:
            fault = "'ratio_to' goes with 'max' and 'min' alone"
        if fault:
            raise SettingsError(f"{self.path}: {fault}")

    def _tolerance(self, raw: Mapping[str, object]) -> Tolerance | None:
        """A share where it is in percent, else an amount in the metric's unit."""
        if "tolerance" not in raw:
            return None
        value, path = raw["tolerance"], f"{self.path}.tolerance"
        is_relative = isinstance(value, str) and value.rstrip().endswith("%")
        dimension = Dimension.ONE if is_relative else self.metric.dimension
        return Tolerance(amount=self.quantity(value, path, dimension), is_relative=is_relative)

    def _change(self, raw: Mapping[str, object], key: str) -> Fraction | None:
        if key not in raw:
            return None
        value = raw[key]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SettingsError(
                f"{self.path}.{key}: cannot read {value!r}; write a change, such as '+5%'"
            )
        try:
            return parse_change(value)
        except QuantityError as error:
            raise SettingsError(f"{self.path}.{key}: {error}") from None

    def _text(self, raw: Mapping[str, object], key: str) -> str | None:
        value = raw.get(key)
        if key in raw and (not isinstance(value, str) or not value):
            raise SettingsError(f"{self.path}.{key}: cannot read {value!r}; write a name")
        return value if isinstance(value, str) else None

    def _one_of(
        self, raw: Mapping[str, object], key: str, what: str, known: Collection[str]
    ) -> str | None:
        value = self._text(raw, key)
        if value is None or value in known:
            return value
        raise SettingsError(f"{self.path}.{key}: {unknown(what, value, known)}")


def check_key(key: str, known: Collection[str], path: str) -> None:
    """Raise SettingsError for a key that a table at `path` cannot have."""
    if key not in known:
        raise SettingsError(f"{path}.{key}: {unknown('key', key, known)}")


def unknown(what: str, word: str, known: Collection[str]) -> str:
    """The fault of an unknown word, with the nearest right spelling, or else all of them."""
    near = nearest(word, known)
    if near:
        return f"unknown {what} '{word}'; did you mean '{near}'?"
    if not known:
        return f"unknown {what} '{word}'; the settings define none"
    return f"unknown {what} '{word}'; known are {', '.join(known)}"
