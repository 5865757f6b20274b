"""Measuring one call: the counted run, and the timed runs after it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import Measurement, Samples
from pytest_flopbudget.meters.dispatch import DispatchPass
from pytest_flopbudget.meters.eager import uncompiled
from pytest_flopbudget.meters.fake import measured_as_fake, refuse_timing, stand_ins_for
from pytest_flopbudget.meters.latency import LatencyTimer, samples_to_values
from pytest_flopbudget.meters.rates import flops_by_dtype, with_rates
from pytest_flopbudget.meters.region import new_region


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """How one call is to be measured."""

    name: str = ""
    fake: bool = False
    train: bool = False


@uncompiled
def measure(
    callable: Callable[..., Any],  # noqa: A002 - the name that the design gives it
    /,
    *args: Any,
    fake: bool = False,
    train: bool = False,
    lines: bool = False,
    process_memory: bool = False,
    **kwargs: Any,
) -> Measurement:
    """Everything exact about one call of a callable, such as a module.

    callable: called once with `args` and `kwargs`, under the counter.
    fake: calls it on fake tensors, which have sizes and no values: nothing is computed
    and no tensor memory is used. Real modules and arguments are taken for fake, and stay
    as they are; `output` is fake. See `pytest_flopbudget.fake` to make a model so.
    train: also runs backward from the sum of every floating-point tensor that is
    returned and needs a gradient.
    lines: also keeps the counts by source line, in `by_line`; counting then takes longer.
    process_memory: also takes `allocator_peak` and `rss_peak`, which are of this machine;
    `absent` says why, where one of them is not to be had.

    Returns a `Measurement`: counts as plain integers (`flops` in FLOP, `macs` in MAC,
    memory in bytes), `output`, `uncounted`, `by_module` and `by_operator`.

    Raises MeasureError when the call's work would not be done within it (coroutines
    and generators), when `train` finds nothing to run backward from, or when a line of
    the code, which it names, cannot run on fake tensors. Any other exception of the
    callable propagates.
    """
    wanted = _Wanted(fake=fake, train=train)
    region = new_region(_root_of(callable), lines=lines, process_memory=process_memory)
    return _counted(callable, args, kwargs, region, wanted)


def count_call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    *,
    lines: bool = False,
    process_memory: bool = False,
) -> Measurement:
    """The same for a named region; what an exception leaves is a partial measurement.

    The exception carries it as its attribute `flopbudget_partial`, and propagates.
    """
    region = new_region(_root_of(fn), lines=lines, process_memory=process_memory)
    return _counted(fn, args, kwargs, region, _Wanted(name=name))


def time_call(
    measurement: Measurement,
    timer: LatencyTimer,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    has_utilization: bool = False,
) -> Measurement:
    """The measurement with the sampled metrics of further calls added to it.

    has_utilization: whether to find the share of the machine's roof as well, which takes
    one more call, and once in a process a tenth of a second for each dtype.
    Raises MeasureError for a call on fake tensors, which takes no time worth telling.
    """
    refuse_timing(fn, args, kwargs)
    samples: Samples = timer.measure(fn, *args, **kwargs)
    values = {**measurement.values, **samples_to_values(samples)}
    timed = replace(measurement, values=values, samples=samples)
    count = partial(flops_by_dtype, fn, args, kwargs) if has_utilization else None
    return with_rates(timed, samples, count)


def with_backward(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The callable, with backward from its summed outputs after each call."""

    def run(*args: Any, **kwargs: Any) -> Any:
        output = fn(*args, **kwargs)
        _run_backward(output)
        return output

    return run


def _counted(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    region: DispatchPass,
    wanted: _Wanted,
) -> Measurement:
    root = _root_of(fn)
    with measured_as_fake(wanted=wanted.fake, values=(fn, args, kwargs)) as mode:
        if mode is not None and region.has_process_memory:
            raise MeasureError(
                "process_memory: fake tensors take none of the process's; leave one of both out"
            )
        try:
            with region, stand_ins_for(mode) as stand_ins:
                if stand_ins is not None:
                    args, kwargs = stand_ins.arguments((args, kwargs))
                    if root is not None:
                        stand_ins.note_module(root)
                output = fn(*args, **kwargs)
                if wanted.train:
                    _run_backward(output)
        except BaseException as error:
            error.flopbudget_partial = region.measurement(wanted.name, is_partial=True)  # type: ignore[attr-defined]  # exceptions take any attribute
            raise
    _refuse_unfinished(fn, output)
    return region.measurement(wanted.name, output=output)


def _root_of(fn: Callable[..., Any]) -> nn.Module | None:
    """The module that is called: the callable itself, or the one whose method it is."""
    for candidate in (fn, getattr(fn, "__self__", None)):
        if isinstance(candidate, nn.Module):
            return candidate
    return None


def _refuse_unfinished(fn: Callable[..., Any], output: Any) -> None:
    """Refuse a result whose work is still to come: its counts would be a silent zero."""
    kind = None
    if inspect.isawaitable(output):
        kind = "a coroutine"
    elif inspect.isgenerator(output) or inspect.isasyncgen(output):
        kind = "a generator"
    if kind is None:
        return
    if inspect.iscoroutine(output):
        output.close()
    name = getattr(fn, "__qualname__", type(fn).__name__)
    raise MeasureError(
        f"{name} returned {kind}, whose work is not done yet; measure the code that "
        "runs it in a block: with flopbudget.region(): ..."
    )


def _run_backward(output: Any) -> None:
    losses = [tensor.sum() for tensor in _floating_tensors(output) if tensor.requires_grad]
    if not losses:
        raise MeasureError(
            "train: the call returned no tensor that needs a gradient; are all its "
            "parameters frozen, or was it run under no_grad?"
        )
    torch.autograd.backward(losses)


def _floating_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _floating_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _floating_tensors(item)
