"""How much arithmetic a timed call did per second, and what share of the roof that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Measurement, Samples, Value
from pytest_flopbudget.meters.call_stack import CallStack
from pytest_flopbudget.meters.counting import CountingMode
from pytest_flopbudget.meters.dispatch import DispatchPass
from pytest_flopbudget.meters.randomness import preserved_random_state
from pytest_flopbudget.meters.roof import rate_of
from pytest_flopbudget.meters.traffic import tensors_in

_MOSTLY: Final = Fraction(9, 10)
"""The share of the FLOPs that one dtype must have for its roof to be the region's."""
_NONE: Final = "no floating-point dtype"


def with_rates(
    timed: Measurement, samples: Samples, count: Callable[[], Mapping[str, int]] | None
) -> Measurement:
    """The measurement with `flops_per_second` and, where `count` is given, `utilization`.

    samples: of the timed calls. count: tells the FLOPs of a call by dtype.
    Why one of them is not to be had is in `absent`.
    """
    wanted = ["flops_per_second"] if count is None else ["flops_per_second", "utilization"]
    found: dict[str, Value] = {}
    why = ""
    try:
        rate = found["flops_per_second"] = flops_per_second(timed, samples)
        if count is not None:
            _refuse_integers(timed)
            found["utilization"] = utilization(rate, count(), samples.threads)
    except MeasureError as error:
        why = str(error)
    absent = {name: why for name in wanted if name not in found}
    return replace(timed, values={**timed.values, **found}, absent={**timed.absent, **absent})


def flops_per_second(measurement: Measurement, samples: Samples) -> Value:
    """The region's FLOPs by the median time of a call, with the interval of that.

    Raises MeasureError, saying why, where there is no such rate.
    """
    flops = measurement.values["flops"].value
    if not flops:
        has_integers = bool(measurement.values["int_ops"].value)
        instead = ": it computes in integers, which are int_ops" if has_integers else ""
        raise MeasureError(f"the region does no floating-point arithmetic{instead}")
    if samples.low <= 0:
        raise MeasureError("the clock is too coarse to see a call")
    return Value(value=flops / samples.median, low=flops / samples.high, high=flops / samples.low)


def utilization(rate: Value, flops: Mapping[str, int], threads: int) -> Value:
    """The rate as a share of what a matrix product reaches in the dtype of most of the FLOPs.

    flops: by dtype, as `flops_by_dtype` tells. threads: of the timed calls, and so of the
    roof. It may be above 1, where the region found more than the roof's products did.
    Raises MeasureError, saying why, where no dtype has nine tenths of the FLOPs, and where
    the rate of that dtype is not to be had.
    """
    total = sum(flops.values())
    ranked = sorted(flops.items(), key=lambda item: -item[1])
    if not total or ranked[0][0] == _NONE:
        raise MeasureError("the dtype that its FLOPs ran in is not known")
    dtype, most = ranked[0]
    if Fraction(most, total) < _MOSTLY:
        shares = ", ".join(f"{name} {count / total:.0%}" for name, count in ranked if count)
        raise MeasureError(f"its FLOPs are of several dtypes, and no one roof is theirs: {shares}")
    roof = rate_of(dtype, threads)
    low, high = (None if end is None else end / roof for end in (rate.low, rate.high))
    return Value(value=rate.value / roof, low=low, high=high)


def _refuse_integers(measurement: Measurement) -> None:
    """Raise MeasureError where more than a tenth of the arithmetic has no part in the FLOPs."""
    flops, int_ops = (int(measurement.values[name].value) for name in ("flops", "int_ops"))
    share = Fraction(int_ops, flops + int_ops)
    if share > 1 - _MOSTLY:
        raise MeasureError(
            f"{float(share):.0%} of its arithmetic is in integers, which are int_ops and no FLOPs"
        )


def flops_by_dtype(
    fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, int]:
    """The FLOPs of one more call, by the dtype that they ran in, with torch's names.

    Such as `float32`, or `float32 on cuda` where that is not the CPU.
    The counting pass keeps no dtypes, which would cost every operator of every test. The
    random state is left as it was; an exception of the code propagates.
    """
    with preserved_random_state(), _DtypePass(memory=False) as counted:
        fn(*args, **kwargs)
    return counted.flops()


class _DtypePass(DispatchPass):
    """Counts arithmetic by dtype, and not by module."""

    def flops(self) -> dict[str, int]:
        """FLOPs by dtype, between enter and exit."""
        sums: dict[str, int] = {}
        for dtype, _, _, row in self._rows():
            sums[dtype] = sums.get(dtype, 0) + 2 * row.macs + row.arithmetic
        return sums

    def __enter__(self) -> _DtypePass:
        super().__enter__()
        return self

    def _mode(self, calls: CallStack) -> CountingMode:
        return _DtypeMode(calls)


class _DtypeMode(CountingMode):
    """Books each operator at the dtype of its arguments."""

    def __init__(self, calls: CallStack) -> None:
        super().__init__(calls, place=lambda: self._dtype)
        self._dtype = _NONE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._dtype = _dtype_of((*args, *(kwargs or {}).values()))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _dtype_of(values: tuple[Any, ...]) -> str:
    """The floating-point dtype of the first tensor that has one, and its device but for the CPU."""
    for tensor in tensors_in(values):
        if tensor.is_floating_point() or tensor.is_complex():
            name = str(tensor.dtype).removeprefix("torch.")
            return name if tensor.device.type == "cpu" else f"{name} on {tensor.device.type}"
    return _NONE
