"""The sentences that verdicts give as their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core.attribution import Share, format_signed, movers, spenders
from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.errors import nearest
from pytest_flopbudget.core.measurement import UNFINISHED, Measurement, Uncounted
from pytest_flopbudget.core.metrics import Kind, Metric, metric_named
from pytest_flopbudget.core.quantity import format_change, format_pair, format_quantity

_DID: Final = {
    "flops": "used {}",
    "macs": "used {}",
    "int_ops": "used {}",
    "bytes_moved": "moved {}",
    "arithmetic_intensity": "reached {}",
    "peak_memory": "needed {} at its peak",
    "activation_memory": "allocated {} of its peak",
    "allocator_peak": "took {} of the allocator at its peak",
    "cuda_peak_memory": "took {} of the CUDA allocator at its peak",
    "ops": "dispatched {} operators",
    "params": "has {} parameters",
    "trainable_params": "has {} trainable parameters",
    "model_size": "has a model of {}",
    "latency": "took {}",
    "latency_p95": "took {} at p95",
    "latency_p99": "took {} at p99",
    "throughput": "reached {}",
    "flops_per_second": "reached {}",
    "utilization": "reached {} of the roof",
}
"""What a test did, by metric; one that the test records is not here."""

_MOST_PLACES: Final = 3
_MOST_OPERATORS: Final = 5


def who(subject: str, region: str) -> str:
    """The test, and where that is not its own call, the region."""
    return f"{subject}, region {region!r}," if region else subject


def did(metric: Metric, measurement: Measurement) -> str:
    """What the test did, such as `used 1.31 GFLOP`."""
    text = format_quantity(measurement.values[metric.name].value, metric.dimension)
    return _did(metric, text) + _interval(metric, measurement)


def against(metric: Metric, measurement: Measurement, amount: Fraction, bound_words: str) -> str:
    """What the test did, against a bound: `used 1.31 GFLOP, budget 1.2 GFLOP (+9.2 %)`.

    bound_words: with `{}` where `amount`, the bound, belongs.
    """
    value = measurement.values[metric.name].value
    text, bound = format_pair(value, amount, metric.dimension)
    change = format_change(amount, value)
    return (
        f"{_did(metric, text)}{_interval(metric, measurement)}, "
        f"{bound_words.format(bound)} ({change})"
    )


def places(metric: Metric, base: Measurement | None, head: Measurement, *, is_growth: bool) -> str:
    """Where the metric was spent, or what moved it from the baseline; empty if not known."""
    sign = 1 if is_growth else -1
    moved = [share for share in movers(base, head, metric.name) if share.amount * sign > 0]
    if base is not None and moved:
        word = "growth" if is_growth else "drop"
        listed = _listed(moved[:_MOST_PLACES], metric, is_change=True)
        return f"; most of the {word} in {listed}"
    spent = spenders(head, metric.name, _MOST_PLACES) if is_growth else ()
    return f"; most spent in {_listed(spent, metric, is_change=False)}" if spent else ""


def uncounted(operators: Sequence[Uncounted]) -> str:
    """That the counts are too low, because of which operators, and the cure."""
    listed = [
        f"{row.operator} ({row.calls} call{'s' if row.calls > 1 else ''}"
        f"{''.join(f', {shape}' for shape in row.shapes[:1])})"
        for row in operators[:_MOST_OPERATORS]
    ]
    if len(operators) > _MOST_OPERATORS:
        listed.append(f"{len(operators) - _MOST_OPERATORS} more")
    operator = "an operator" if len(operators) == 1 else f"{len(operators)} operators"
    if all(row.operator == UNFINISHED for row in operators):
        return (
            f"its counts are too low: {UNFINISHED}; wait for it within the region "
            "(thread.join(), future.result()), or write strict = false"
        )
    return (
        f"ran {operator} with no formula, so that its counts are too low: {', '.join(listed)}; "
        "give each a formula with pytest_flopbudget.register_formula, or write strict = false"
    )


def why_inconclusive(metric: Metric, measurement: Measurement) -> str:
    """What keeps a sampled value from being told from its bound."""
    value = measurement.values[metric.name]
    if value.low is None or value.high is None:
        return ": too few rounds to say how sure this is"
    return ": the interval holds the bound, so that more rounds, or a quieter machine, must tell"


def not_gated(limit: Limit, subject: str, region: str) -> str:
    """That the limit is for another machine."""
    return (
        f"{who(subject, region)} is not gated here: "
        f"its {limit.metric} budget is for the machine '{limit.on}'"
    )


def not_measured(
    limit: Limit,
    measurement: Measurement | None,
    regions: Sequence[str],
    subject: str,
    region: str,
) -> str:
    """What is missing, and the nearest thing that is there."""
    if metric_named(limit.metric).kind is Kind.RECORDED:
        recorded = () if measurement is None else measurement.values
        return f"{subject} never recorded '{limit.metric}'{_instead(limit.metric, recorded)}"
    if measurement is not None:
        why = measurement.absent.get(limit.metric)
        said = f"{who(subject, region)} was not measured for {limit.metric}"
        return f"{said}: {why}" if why else said
    if region:
        return f"{subject} never measured the region '{region}'{_instead(region, regions)}"
    others = ", ".join(f"'{name}'" for name in regions)
    only = f"; it measured only {others}: tie the budget to one with region=" if others else ""
    return f"{subject} never measured its own call{only}"


def raised(limit: Limit, subject: str, region: str) -> str:
    """That the measured code raised, and the test went on."""
    return (
        f"{who(subject, region)} raised before its end, so that its {limit.metric} say nothing; "
        "measure code that ends, or leave what raises out of the region"
    )


def nothing_ran(limit: Limit, subject: str, region: str) -> str:
    """That the region did no work of torch's, so that its zero says nothing."""
    return (
        f"{who(subject, region)} ran no operator of torch, so that its {limit.metric} say nothing; "
        "is the model called elsewhere, such as in a fixture? Where nothing is meant, write 0"
    )


def no_reference(
    limit: Limit, referred: Measurement | None, known: Mapping[str, Measurement]
) -> str:
    """Why a ratio has nothing to be a ratio to."""
    name = limit.ratio_to or ""
    if referred is not None:
        return f"'{name}' was not measured for {limit.metric}"
    return f"no measurement is named '{name}'{_instead(name, known)}"


def _instead(word: str, known: Iterable[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


def _did(metric: Metric, text: str) -> str:
    if metric.kind is Kind.RECORDED:
        return f"recorded {metric.name} {text}"
    return _DID[metric.name].format(text)


def _interval(metric: Metric, measurement: Measurement) -> str:
    value, samples = measurement.values[metric.name], measurement.samples
    if value.low is None or value.high is None:
        return ""
    low, high = format_pair(value.low, value.high, metric.dimension)
    sure = f"{100 * samples.confidence:.3g} % " if samples else ""
    return f" ({sure}interval {low} to {high})"


def _listed(shares: Sequence[Share], metric: Metric, *, is_change: bool) -> str:
    write = format_signed if is_change else format_quantity
    return ", ".join(
        f"{share.place} ({share.operator}, {write(share.amount, metric.dimension)})"
        for share in shares
    )
