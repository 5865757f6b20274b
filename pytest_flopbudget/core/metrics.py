"""The catalogue of metrics: each knows its unit, its direction and how it is known."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class Dimension(enum.Enum):
    """What a number counts; two quantities compare only within one dimension."""

    FLOP = "FLOP"
    MAC = "MAC"
    OP = "OP"
    BYTE = "B"
    SECOND = "s"
    PER_SECOND = "1/s"
    FLOP_PER_SECOND = "FLOP/s"
    FLOP_PER_BYTE = "FLOP/B"
    ONE = "1"

    @property
    def unit(self) -> str:
        """The base unit, as reports print it."""
        return self.value


class Kind(enum.Enum):
    """How a value is known."""

    EXACT = "exact"
    """A pure function of the code and its input shapes: gated with zero tolerance."""
    SAMPLED = "sampled"
    """A statistic of repeated runs: gated only with a confidence statement."""
    MACHINE = "machine"
    """Of one run on one machine, and another on another: gated with room alone."""
    RECORDED = "recorded"
    """Given by the test itself, through `flopbudget.record`."""


class Better(enum.Enum):
    """Which direction is an improvement."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing that a budget can bound."""

    name: str
    dimension: Dimension
    title: str
    """The words that tables print."""
    kind: Kind = Kind.EXACT
    better: Better = Better.LOWER
    varies_with: str = ""
    """What decides it beside the code, of one that depends on the machine."""
    unfit: str = ""
    """Why no budget may bound it, and what to bound instead; empty where one may."""


def _catalogue(*metrics: Metric) -> Mapping[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS: Final = _catalogue(
    Metric(name="flops", dimension=Dimension.FLOP, title="FLOPs"),
    Metric(name="macs", dimension=Dimension.MAC, title="MACs"),
    Metric(name="int_ops", dimension=Dimension.OP, title="integer operations"),
    Metric(name="bytes_moved", dimension=Dimension.BYTE, title="bytes moved"),
    Metric(
        name="arithmetic_intensity",
        dimension=Dimension.FLOP_PER_BYTE,
        title="arithmetic intensity",
        better=Better.HIGHER,
    ),
    Metric(name="peak_memory", dimension=Dimension.BYTE, title="peak memory"),
    Metric(name="activation_memory", dimension=Dimension.BYTE, title="activation memory"),
    Metric(
        name="allocator_peak",
        dimension=Dimension.BYTE,
        title="allocator peak",
        kind=Kind.MACHINE,
        varies_with="the processor's instruction set",
    ),
    Metric(
        name="rss_peak",
        dimension=Dimension.BYTE,
        title="process peak (RSS)",
        kind=Kind.MACHINE,
        unfit="what is resident depends on all that the process did before; bound 'peak_memory', "
        "or 'allocator_peak' where scratch inside operators is to count",
    ),
    Metric(
        name="cuda_peak_memory",
        dimension=Dimension.BYTE,
        title="CUDA peak memory",
        kind=Kind.MACHINE,
        varies_with="the device and its libraries",
    ),
    Metric(name="ops", dimension=Dimension.ONE, title="operators dispatched"),
    Metric(name="params", dimension=Dimension.ONE, title="parameters"),
    Metric(name="trainable_params", dimension=Dimension.ONE, title="trainable parameters"),
    Metric(name="model_size", dimension=Dimension.BYTE, title="model size"),
    Metric(name="latency", dimension=Dimension.SECOND, title="latency", kind=Kind.SAMPLED),
    Metric(name="latency_p95", dimension=Dimension.SECOND, title="latency p95", kind=Kind.SAMPLED),
    Metric(name="latency_p99", dimension=Dimension.SECOND, title="latency p99", kind=Kind.SAMPLED),
    Metric(
        name="throughput",
        dimension=Dimension.PER_SECOND,
        title="throughput",
        kind=Kind.SAMPLED,
        better=Better.HIGHER,
    ),
    Metric(
        name="flops_per_second",
        dimension=Dimension.FLOP_PER_SECOND,
        title="FLOPs per second",
        kind=Kind.SAMPLED,
        better=Better.HIGHER,
    ),
    Metric(
        name="utilization",
        dimension=Dimension.ONE,
        title="share of the roof",
        kind=Kind.SAMPLED,
        better=Better.HIGHER,
    ),
)
"""Every metric that this version measures, in the order in which tables print them."""

NOT_MEASURED_YET: Final = frozenset(
    {
        "sparsity",
        "effective_macs",
        "graph_breaks",
        "recompiles",
        "comm_bytes",
        "energy",
    }
)
"""Names that the design gives a meaning, so that no test may record its own under them."""

UNCOUNTED: Final = Metric(name="uncounted", dimension=Dimension.ONE, title="uncounted operators")
"""The metric of strictness: how many distinct operators had no formula. Its limit is zero."""


def metric_named(name: str, better: Better | None = None) -> Metric:
    """The catalogue's metric of this name, else a metric that the test itself records."""
    if name == UNCOUNTED.name:
        return UNCOUNTED
    known = METRICS.get(name)
    if known is not None:
        return known
    return Metric(
        name=name,
        dimension=Dimension.ONE,
        title=name,
        kind=Kind.RECORDED,
        better=better or Better.LOWER,
    )
