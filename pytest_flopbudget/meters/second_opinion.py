"""The same call under torch's own counter and under fvcore, and why they differ from ours."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from math import prod
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget.core.measurement import Measurement
from pytest_flopbudget.core.opinion import FLOPS_PER_MAC, Difference, Opinion
from pytest_flopbudget.meters.measure import measure, with_backward
from pytest_flopbudget.meters.plans import Road, plan_for
from pytest_flopbudget.meters.randomness import preserved_random_state

TORCH: Final = "FlopCounterMode"
FVCORE: Final = "fvcore"

_GROUPS: Final = "its weight gradient lacks the division by the groups"
_COMPLEX: Final = "it counts a complex multiply-add, four real ones, as one"
_SPARSE: Final = "it counts a sparse operand as a dense one"
_UNCOUNTED: Final = "we have no formula for this call, and report it as uncounted"
_NO_FORMULA: Final = "it has no formula for it, and counts nothing"

_COMPOSED: Final = frozenset({Road.DECOMPOSE, Road.LOOK_INSIDE, Road.OPAQUE, Road.HIGHER_ORDER})
"""Roads on which our counter books other operators in the place of the one called."""

_PRODUCTS: Final = frozenset({"addmm", "bmm", "einsum", "linear", "matmul", "mm"})
"""fvcore's names of matrix products: composite ones, which cannot be told apart in ours."""
_OUR_PRODUCTS: Final = frozenset(
    f"aten.{name}"
    for name in ("_addmm_activation", "addmm", "addmv", "baddbmm", "bmm", "dot", "mm", "mv", "vdot")
)
_OUR_CONVOLUTIONS: Final = frozenset(
    f"aten.{name}" for name in ("_convolution", "convolution", "mkldnn_convolution")
)
_NO_PRODUCTS: Final = frozenset(
    {
        "adaptive_avg_pool2d",
        "batch_norm",
        "grid_sampler",
        "group_norm",
        "instance_norm",
        "layer_norm",
        "upsample_bilinear2d",
        "upsample_nearest2d",
    }
)
"""What fvcore adds to its multiply-adds, and is none."""
_HOLDS_PRODUCTS: Final = frozenset(
    f"aten::{name}"
    for name in (
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
        "bilinear",
        "cdist",
        "gru",
        "gru_cell",
        "lstm",
        "lstm_cell",
        "rnn_relu",
        "rnn_relu_cell",
        "rnn_tanh",
        "rnn_tanh_cell",
        "scaled_dot_product_attention",
    )
)
"""Operators that fvcore leaves out whole, and that call matrix products."""


def cross_check(
    fn: Callable[..., Any], args: tuple[Any, ...], measurement: Measurement, *, train: bool = False
) -> tuple[Opinion, ...]:
    """What torch's FlopCounterMode and fvcore count for the call that was measured.

    fn, args: what was measured; called again, once under each of them.
    train: whether the measurement holds the backward pass too.

    Random state is left as it was found, and so are the gradients and buffers of the
    module and the gradients of the arguments, though not those of modules that a plain
    function finds by itself. What the others raise is told in `Opinion.failure`.
    """
    with torch.set_grad_enabled(train):
        return (
            _guarded(TORCH, fn, args, measurement, lambda: _of_torch(fn, args, measurement, train)),
            _guarded(
                FVCORE, fn, args, measurement, lambda: _of_fvcore(fn, args, measurement, train)
            ),
        )


def _guarded(
    counter: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    measurement: Measurement,
    ask: Callable[[], Opinion],
) -> Opinion:
    """The opinion, or that the other counter raised."""
    try:
        with preserved_random_state(), _preserved(fn, args), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask()
    except Exception as error:  # the code ran under our counter before
        said = next(iter(str(error).splitlines()), "")
        return Opinion(
            counter=counter,
            ours=_ours(measurement),
            failure=f"raises {type(error).__name__}: {said}".removesuffix(": "),
        )


@contextmanager
def _preserved(fn: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[None]:
    """A block that begins without gradients, after which they and the buffers are as before."""
    modules = [m for m in (fn, getattr(fn, "__self__", None)) if isinstance(m, nn.Module)]
    weights = [weight for module in modules for weight in module.parameters()]
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.is_leaf]
    gradients = [(tensor, tensor.grad) for tensor in (*weights, *given)]
    buffers = [
        (buffer, buffer.detach().clone()) for module in modules for buffer in module.buffers()
    ]
    for tensor, _ in gradients:
        tensor.grad = None
    try:
        yield
    finally:
        for tensor, gradient in gradients:
            tensor.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _ours(measurement: Measurement) -> int:
    return sum(FLOPS_PER_MAC * row.counts.macs for row in measurement.operators)


class _WatchedCounter(FlopCounterMode):
    """torch's counter, with what it saw: that says why its numbers are what they are."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self.calls: Counter[str] = Counter()
        self.misread: dict[str, Counter[str]] = {}
        """By operator and reason, what it counted too much, or if negative too little."""
        self.sparse: set[str] = set()
        self.composed: dict[str, None] = {}
        """Operators that our counter looks into, in the order of first use."""

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        name = str(func_packet)
        counts = self.flop_counts["Global"]
        before = counts.get(func_packet, 0)
        result = super()._count_flops(func_packet, out, args, kwargs)
        counted = counts.get(func_packet, 0) - before
        self.calls[name] += 1
        if _is_composed(func_packet):
            self.composed[name] = None
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        misread = self.misread.setdefault(name, Counter())
        if counted and name == "aten.convolution_backward":
            misread[_GROUPS] += _groups_left_in(args)
        elif counted and any(tensor.is_complex() for tensor in tensors):
            misread[_COMPLEX] -= 3 * counted
        if any(tensor.layout is not torch.strided for tensor in tensors):
            self.sparse.add(name)
        return result


def _is_composed(packet: Any) -> bool:
    """Whether our counter books what the operator calls, and not the operator."""
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    return plan_for(getattr(packet, packet.overloads()[0])).road in _COMPOSED


def _groups_left_in(arguments: Sequence[Any]) -> int:
    """FLOPs that torch's counter adds to a weight gradient because it ignores the groups.

    x: [n, c_in, ...], grad_output: [n, c_out, ...], weight: [.., .., kernel...]
    It counts 2*n*c_in*c_out*kernel*positions, of which one part in `groups` is done;
    the positions are those of the output, or of the input where transposed.
    """
    grad_output, x, weight, _, _, _, _, transposed, _, groups, output_mask = arguments
    if not output_mask[1]:
        return 0
    positions = prod((x if transposed else grad_output).shape[2:])
    counted: int = 2 * prod(x.shape[:2]) * grad_output.shape[1] * positions * prod(weight.shape[2:])
    return counted - counted // int(groups)


def _of_torch(
    fn: Callable[..., Any], args: tuple[Any, ...], measurement: Measurement, train: bool
) -> Opinion:
    run = with_backward(fn) if train else fn
    with _WatchedCounter() as counter:
        run(*args)
    theirs = {str(key): int(n) for key, n in counter.get_flop_counts().get("Global", {}).items()}
    known = {str(key) for key in counter.flop_registry}
    return Opinion(
        counter=TORCH,
        ours=_ours(measurement),
        total=counter.get_total_flops(),
        differences=tuple(_torch_differences(measurement, theirs, counter, known)),
    )


def _torch_differences(
    measurement: Measurement,
    theirs: Mapping[str, int],
    counter: _WatchedCounter,
    known: Iterable[str],
) -> Iterator[Difference]:
    """Each operator's difference by its cause; what has no known cause is left out."""
    rows = {row.operator: row for row in measurement.operators}
    uncounted = {row.operator.rpartition(".")[0] for row in measurement.uncounted}
    inside = [name for name in counter.composed if name not in rows]
    for name in dict.fromkeys((*rows, *theirs)):
        row = rows.get(name)
        calls = row.calls if row else 0
        rest = theirs.get(name, 0) - (FLOPS_PER_MAC * row.counts.macs if row else 0)
        for reason, flops in counter.misread.get(name, {}).items():
            if flops:
                yield Difference(operator=name, flops=flops, reason=reason)
                rest -= flops
        seen = counter.calls[name]
        reason = ""
        if rest > 0 and name in uncounted:
            reason = _UNCOUNTED
        elif rest > 0 and name in counter.sparse:
            reason = _SPARSE
        elif rest < 0 and seen < calls:
            reason = f"it saw {seen} of {calls} calls"
            if inside:
                reason += f"; it does not look inside {', '.join(inside)}"
        elif rest < 0 and name not in known:
            reason = _NO_FORMULA
        if reason:
            yield Difference(operator=name, flops=rest, reason=reason)


def _of_fvcore(
    fn: Callable[..., Any], args: tuple[Any, ...], measurement: Measurement, train: bool
) -> Opinion:
    ours = _ours(measurement)
    try:
        fvcore = import_module("fvcore.nn")
    except ImportError:
        return Opinion(
            counter=FVCORE, ours=ours, per_mac=1, failure="is not installed: pip install fvcore"
        )
    if not isinstance(fn, nn.Module):
        return Opinion(counter=FVCORE, ours=ours, per_mac=1, failure="traces modules alone")
    analysis = fvcore.FlopCountAnalysis(fn, args)
    analysis.unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    with _quiet("fvcore"):
        theirs = {name: int(count) for name, count in analysis.by_operator().items()}
        left_out = tuple(analysis.unsupported_ops())
    # Of a training step it traces the forward pass alone, which is counted by itself here.
    forward = measure(fn, *args) if train else measurement
    differences = list(_fvcore_differences(forward, theirs, left_out))
    backward = ours - _ours(forward)
    if backward:
        differences.append(
            Difference(
                operator="backward pass",
                flops=-backward,
                reason="it traces the forward pass alone",
            )
        )
    return Opinion(
        counter=FVCORE,
        ours=ours,
        total=sum(theirs.values()),
        per_mac=1,
        differences=tuple(differences),
    )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A block in which a library's loggers say nothing."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _fvcore_differences(
    forward: Measurement, theirs: Mapping[str, int], left_out: tuple[str, ...]
) -> Iterator[Difference]:
    """The forward pass's differences by cause; what has no known cause is left out."""
    ours = {row.operator: FLOPS_PER_MAC * row.counts.macs for row in forward.operators}
    holders = [
        name for name in left_out if name in _HOLDS_PRODUCTS or not name.startswith("aten::")
    ]
    closed = f"it does not look inside {', '.join(n.replace('::', '.') for n in holders)}"
    products = sum(FLOPS_PER_MAC * theirs.get(name, 0) for name in _PRODUCTS)
    for name, flops in ours.items():
        if not flops:
            continue
        if name.replace(".", "::", 1) in left_out:
            yield Difference(operator=name, flops=-flops, reason=_NO_FORMULA)
        elif name not in _OUR_PRODUCTS | _OUR_CONVOLUTIONS:
            reason = closed if holders else _NO_FORMULA
            yield Difference(operator=name, flops=-flops, reason=reason)
        elif name in _OUR_PRODUCTS:
            products -= flops
    if products < 0 and holders:
        yield Difference(operator="matrix products", flops=products, reason=closed)
    for name in sorted(_NO_PRODUCTS & theirs.keys()):
        if theirs[name]:
            yield Difference(
                operator=name,
                flops=FLOPS_PER_MAC * theirs[name],
                reason="it is no multiply-add; ours is among the other arithmetic",
            )
