"""Fake tensors: sizes and dtypes without data, for models larger than the machine."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters.cpu_results import as_on_cpu
from pytest_flopbudget.meters.standins import (
    LONGEST_CONSTANT,
    PACK,
    StandIns,
    are_lengths,
    hold_as_much,
)
from pytest_flopbudget.meters.unfakeable import explained

_FAKE: Final = torch._C._TorchDispatchModeKey.FAKE
_RAMP: Final = torch.ops.aten.linspace.default


@functools.cache
def _own_mode() -> FakeTensorMode:
    """The one mode of the process, so that fake tensors of two blocks can meet."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    dispatch, may_turn_const = mode.dispatch, mode.may_turn_const

    def corrected(func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is PACK and (lengths := _values_of(args[1])) is not None:
            return _packed(mode, args[0], lengths, is_batch_first=args[2])
        if func is _RAMP and _is_short(*args, **(kwargs or {})):
            # Constructors read rates off it one by one, such as those of stochastic depth.
            with _disable_current_modes():
                ramp = func(*args, **(kwargs or {}))
            return mode.fake_tensor_converter.from_real_tensor(mode, ramp, make_constant=True)
        result = as_on_cpu(func, args, lambda: dispatch(func, types, args, kwargs or {}))
        for made in result if isinstance(result, tuple) else (result,):
            if isinstance(made, FakeTensor) and made.constant is not None:
                hold_as_much(made, made.constant)
        return result

    # On this one object: higher-order operators know FakeTensorMode by its exact class.
    one: Any = mode
    one.dispatch = corrected
    one.may_turn_const = lambda t: may_turn_const(t) or are_lengths(t)
    kind: Any = FakeTensor
    kind.__deepcopy__ = _deep_copied
    return mode


def _deep_copied(tensor: Any, memo: dict[int, Any]) -> Any:
    """A copy for `copy.deepcopy`, in place of torch's, which copies memory that is not there."""
    if id(tensor) in memo:
        return memo[id(tensor)]
    if tensor.fake_mode is not _own_mode() or not tensor.is_leaf:
        return Tensor.__deepcopy__(tensor, memo)
    with tensor.fake_mode, torch.no_grad():
        made: Any = torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
        )
        hold_as_much(made, tensor)
        if isinstance(tensor, nn.Parameter | nn.Buffer):
            kind = nn.Parameter if isinstance(tensor, nn.Parameter) else nn.Buffer
            made = kind(made)
        made.requires_grad_(tensor.requires_grad)
    memo[id(tensor)] = made
    if tensor.grad is not None:
        made.grad = _deep_copied(tensor.grad, memo)
    return made


def _is_short(_start: Any, _end: Any, steps: int, *, device: Any = None, **_options: Any) -> bool:
    """Whether a ramp of numbers, which is to be made, may keep its values."""
    return steps <= LONGEST_CONSTANT and torch.device(device or "cpu").type == "cpu"


_ENTERED: Final = [0]


def times_entered() -> int:
    """How often `fake` blocks have begun in this process, to tell whether code had one."""
    return _ENTERED[0]


def active_mode() -> FakeTensorMode | None:
    """The mode that makes new tensors fake now, if one does."""
    if not torch._C._len_torch_dispatch_stack():  # which is quicker to ask
        return None
    mode: FakeTensorMode | None = torch._C._get_dispatch_mode(_FAKE)
    return mode


def _values_of(tensor: Tensor) -> Tensor | None:
    """A real tensor with the values, where they are known."""
    return tensor.constant if isinstance(tensor, FakeTensor) else tensor


def _packed(
    mode: FakeTensorMode, padded: FakeTensor, lengths: Tensor, *, is_batch_first: bool
) -> tuple[FakeTensor, FakeTensor]:
    """A packed sequence, whose sizes follow from lengths that are known."""
    with _disable_current_modes():
        _, batches = PACK(torch.empty(*padded.shape[:2], 1), lengths, is_batch_first)
        sizes = (int(batches.sum()), *padded.shape[2:])
        made = torch.empty(sizes, dtype=padded.dtype, device="meta")
    converter = mode.fake_tensor_converter
    data = converter.from_meta_and_device(mode, made, padded.device)
    return data, converter.from_real_tensor(mode, batches, make_constant=True)


@contextmanager
def fake() -> Iterator[None]:
    """A block in which tensors and modules that are made take no memory.

        with pytest_flopbudget.fake():
            model = Llama(config)
            m = measure(model, torch.zeros(1, 8192, dtype=torch.long))

    They are torch's fake tensors: they have sizes, dtypes and a device (the CPU), and
    no values. Every exact metric can be measured on them. Real tensors that the block
    uses are taken for fake and keep their values and gradients.

    Raises MeasureError, which names the line, where code reads a value.
    """
    mode = active_mode() or _own_mode()
    _ENTERED[0] += 1
    with explained(), mode, StandIns(mode) as stand_ins, _made_for_fakes(stand_ins):
        yield


def is_faking(*values: Any) -> bool:
    """Whether a call on these values is one on fake tensors."""
    return active_mode() is not None or _mode_of(values) is not None


@contextmanager
def measured_as_fake(*, wanted: bool, values: Iterable[Any]) -> Iterator[FakeTensorMode | None]:
    """A block in which a call on these values is measured; gives the mode, if it is a fake one.

    It is when that is wanted, when such a mode is active, or when fake tensors are among
    the values.
    """
    mode = active_mode() or _mode_of(values) or (_own_mode() if wanted else None)
    if mode is None:
        yield None
        return
    with mode:
        yield mode


@contextmanager
def stand_ins_for(mode: FakeTensorMode | None) -> Iterator[StandIns | None]:
    """A block in which real tensors are taken for fake, to be entered after a counter."""
    if mode is None:
        yield None
        return
    with explained(), StandIns(mode) as stand_ins:
        yield stand_ins


def refuse_timing(*values: Any) -> None:
    """Raise MeasureError if a call on these values would compute nothing."""
    if is_faking(*values):
        raise MeasureError(
            "fake tensors compute nothing, so that there is nothing to time; take the latency "
            "with real ones"
        )


def _mode_of(values: Iterable[Any]) -> FakeTensorMode | None:
    """The mode of the fake tensors among the values and in what they hold."""
    for leaf in pytree.tree_leaves(list(values)):
        for held in _held_by(leaf):
            is_module = isinstance(held, nn.Module)
            for tensor in (*held.parameters(), *held.buffers()) if is_module else (held,):
                if isinstance(tensor, FakeTensor):
                    return tensor.fake_mode
    return None


def _held_by(value: Any) -> Iterator[Any]:
    """The value, the module whose method it is, and the variables that a function closes over."""
    yield value
    if isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # a variable that has no value yet
                yield cell.cell_contents


@contextmanager
def _made_for_fakes(stand_ins: StandIns) -> Iterator[None]:
    """A block in which torch's own tools for modules work on fake ones."""
    apply: Callable[..., nn.Module] = nn.Module._apply
    swap = torch.utils.swap_tensors
    draw = torch.nn.init._no_grad_trunc_normal_

    def noted_apply(module: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
        # A real module would keep the fake parameters that `.to` gives it.
        stand_ins.note_module(module)
        return apply(module, fn, recurse)

    def swap_fakes(one: Tensor, other: Tensor) -> None:
        if isinstance(one, FakeTensor) and isinstance(other, FakeTensor):
            _swap(one, other)
        else:
            swap(one, other)

    def drawn(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # It draws again while a value lies outside; torch leaves it out on meta tensors too.
        return tensor if isinstance(tensor, FakeTensor) else draw(tensor, *args, **kwargs)

    with ExitStack() as replacements:
        for owner, name, new in (
            (nn.Module, "_apply", noted_apply),
            (torch.utils, "swap_tensors", swap_fakes),
            (torch.nn.init, "_no_grad_trunc_normal_", drawn),
        ):
            replacements.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        yield


def _swap(one: FakeTensor, other: FakeTensor) -> None:
    """Exchange two tensors, each keeping its identity, as `.to` does with parameters.

    torch's own refuses tensors with weak references, which every fake one has: its mode's.
    """
    one.__class__, other.__class__ = other.__class__, one.__class__
    one.__dict__, other.__dict__ = other.__dict__, one.__dict__
    torch._C._swap_tensor_impl(one, other)
