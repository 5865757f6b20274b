"""What a meter yields: values, and the modules and operators that spent them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from pytest_flopbudget.core.metrics import Better


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one operator, module or region spent, for every metric that adds up.

    Every field is a plain integer in the base unit of its metric.
    """

    flops: int = 0
    macs: int = 0
    int_ops: int = 0
    bytes_moved: int = 0
    ops: int = 0
    peak_memory: int = 0
    """Bytes alive at the moment of the region's peak."""
    activation_memory: int = 0
    """The part of those bytes that the region allocated."""
    params: int = 0
    trainable_params: int = 0
    model_size: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in COUNTED})

    def as_dict(self) -> dict[str, int]:
        """The counts that are not zero, by metric name."""
        return {name: value for name in COUNTED if (value := getattr(self, name))}

    @staticmethod
    def total(rows: Iterable[Counts]) -> Counts:
        """The sum of the rows."""
        sums = map(sum, zip(*map(_counted, rows), strict=True))
        return Counts(**dict(zip(COUNTED, sums, strict=False)))


COUNTED: Final = tuple(f.name for f in fields(Counts))
"""The metrics that add up over modules and operators, in catalogue order."""
_counted: Final = attrgetter(*COUNTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSpending:
    """What one operator spent under one module, or over a whole region."""

    operator: str
    """Such as `aten.convolution`; `parameter`, `buffer` and `input` stand for
    storage that was there before the region began."""
    calls: int
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSpending:
    """What ran directly under one module, not in the modules below it.

    The own counts of all modules add up exactly to the region's total.
    """

    path: str
    """Dotted, such as `layer4.0.conv2`; the root module, and code under no module, is ``""``."""
    type: str
    """Class name of the module; empty for code under no module."""
    calls: int
    operators: tuple[OperatorSpending, ...]

    @property
    def own(self) -> Counts:
        """The sum over this module's own operators."""
        if len(self.operators) == 1:
            return self.operators[0].counts
        return Counts.total(row.counts for row in self.operators)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCounts(Counts):
    """A module's counts with everything below it, and `own` without."""

    own: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSpending:
    """What one operator spent that one source line called, in all modules.

    Memory and weights belong to modules alone and are not in its counts.
    """

    line: str
    """Such as `model.py:12`; empty for what no line of the user's called."""
    operator: str
    calls: int
    counts: Counts


UNFINISHED: Final = "work of a thread that had not finished when the region ended"
"""What stands for an uncounted operator where a thread outlived its region."""

UNHEARD: Final = "what ran after something was left that had been entered before the region"
"""The same where torch took the counter off in the middle, as it does then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """An operator that ran and has no formula, so that the totals are too low."""

    operator: str
    """With its overload, such as `aten.cholesky.default`."""
    calls: int
    shapes: tuple[str, ...]
    """Distinct argument shapes, such as `f32[64,64]`, the first few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The summary of one series of timed rounds. Times are in seconds."""

    rounds: int
    warmup_rounds: int
    threads: int
    median: float
    low: float
    """Lower end of the confidence interval of the median."""
    high: float
    """Upper end of it."""
    confidence: float
    p95: float
    p99: float
    minimum: float
    maximum: float
    is_steady: bool
    """False when the warm-up ended at its limit with the series still drifting."""
    calls_per_round: int = 1
    """Above one for a short callable: each sample is then the mean of so many calls."""
    device: str | None = None
    """The CUDA device that the tensors lived on, whose own clock was then read; several, by
    the host's clock, with commas between them. None for the CPU, or where it is not known."""
    p95_low: float | None = None
    """Ends of the confidence intervals of p95 and p99; absent with too few rounds for one."""
    p95_high: float | None = None
    p99_low: float | None = None
    p99_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One metric's value, in the metric's base unit."""

    value: int | float
    low: float | None = None
    """Lower end of the confidence interval, for a sampled metric."""
    high: float | None = None
    better: Better | None = None
    """Only for a recorded metric: the direction that the test gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything measured of one region."""

    name: str = ""
    """The region's name; ``""`` is the test's call or the only call measured in it."""
    values: Mapping[str, Value]
    """By metric name."""
    modules: tuple[ModuleSpending, ...] = ()
    lines: tuple[LineSpending, ...] = ()
    """By source line, where that was asked for."""
    uncounted: tuple[Uncounted, ...] = ()
    """Empty when everything that ran was counted."""
    samples: Samples | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    """By metric, why what was asked for could not be measured here."""
    is_partial: bool = False
    """True when the measured code raised: what was counted until then, never judged."""
    output: Any = field(default=None, compare=False, repr=False)
    """What the measured callable returned; kept out of reports."""

    def __getattr__(self, name: str) -> int | float:
        """The value of a metric, such as `measurement.flops`."""
        # Only called for names that are no field, so it never hides one.
        if name.startswith("__"):
            raise AttributeError(name)
        value = self.values.get(name)
        if value is None:
            if name in self.absent:
                raise AttributeError(f"{name!r} could not be measured: {self.absent[name]}")
            known = ", ".join(self.values) or "nothing"
            raise AttributeError(f"{name!r} was not measured; this measurement has {known}")
        return value.value

    @property
    def by_module(self) -> dict[str, ModuleCounts]:
        """Counts by dotted module path, each with everything below it; the root is ``""``.

        Paths that only lead to a module, such as `layer4.0` when only its children
        ran, are there too. ``by_module[path].own`` leaves out what is below.
        """
        return inclusive_counts(self.modules)

    @property
    def by_line(self) -> dict[str, Counts]:
        """Counts by source line, such as `model.py:12`; empty unless lines were asked for."""
        sums: dict[str, Counts] = {}
        for row in self.lines:
            sums[row.line] = sums.get(row.line, Counts()) + row.counts
        return sums

    @property
    def by_operator(self) -> dict[str, Counts]:
        """Counts by operator, such as `aten.convolution`."""
        return {row.operator: row.counts for row in self.operators}

    @property
    def operators(self) -> tuple[OperatorSpending, ...]:
        """What each operator spent over the whole region, in the order of first use."""
        return operator_totals(self.modules)


def operator_totals(modules: Iterable[ModuleSpending]) -> tuple[OperatorSpending, ...]:
    """The rows of all modules, summed by operator, in the order of first use."""
    rows: dict[str, list[OperatorSpending]] = {}
    for module in modules:
        for row in module.operators:
            rows.setdefault(row.operator, []).append(row)
    return tuple(
        OperatorSpending(
            operator=operator,
            calls=sum(row.calls for row in same),
            counts=Counts.total(row.counts for row in same),
        )
        for operator, same in rows.items()
    )


def inclusive_counts(modules: Iterable[ModuleSpending]) -> dict[str, ModuleCounts]:
    """Counts by module path, each with everything below it, and the root always there."""
    own = {"": Counts()}
    for module in modules:
        for path in _ancestors(module.path):
            own.setdefault(path, Counts())
        own[module.path] = own[module.path] + module.own
    sums = dict(own)
    for path, counts in own.items():
        for above in _ancestors(path):
            if above != path:
                sums[above] = sums[above] + counts
    return {path: ModuleCounts(**sums[path].as_dict(), own=own[path]) for path in own}


def _ancestors(path: str) -> list[str]:
    """The root, every prefix of the path, and the path itself."""
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts) + 1)]
