"""Fake tensors: sizes and dtypes without data, for models larger than the machine."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters.standins import StandIns
from pytest_flopbudget.meters.unfakeable import UnfakeableError, explained

_FAKE: Final = torch._C._TorchDispatchModeKey.FAKE
_LONGEST_CONSTANT: Final = 1024
"""Elements of a `linspace` whose values are kept."""


class _Mode(FakeTensorMode):
    """torch's fake tensors, real ones among them taken for fake."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: the mode that it is made of sees to that already."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if device is not None:
            _refuse_foreign(torch.device(device))
        made = super().__torch_dispatch__(func, types, args, kwargs)
        if func is torch.ops.aten.linspace.default and isinstance(made, FakeTensor):
            self._keep_values(made, func, args, kwargs)
        return made

    def _keep_values(self, made: FakeTensor, func: Any, args: Any, kwargs: Any) -> None:
        """Keep the values of a short ramp of numbers.

        Constructors read rates off it one by one, such as those of stochastic depth.
        """
        if made.numel() <= _LONGEST_CONSTANT and made.device.type == "cpu":
            made.constant = func(*args, **kwargs)
            self.fake_tensor_converter.add_constant_storage_mapping(made)


def _refuse_foreign(device: torch.device) -> None:
    if device.type == "cuda" and not torch.backends.cuda.is_built():
        # torch aborts the whole process at the first gradient of such a tensor.
        raise UnfakeableError(
            f"makes a fake tensor on {device}, which this build of torch, without CUDA, "
            "cannot do; fake tensors stand for the CPU here: leave the device out"
        )


@functools.cache
def _own_mode() -> FakeTensorMode:
    """The one mode of the process, so that fake tensors of two blocks can meet."""
    return _Mode()


_ENTERED: Final = [0]


def times_entered() -> int:
    """How often `fake` blocks have begun in this process, to tell whether code had one."""
    return _ENTERED[0]


def active_mode() -> FakeTensorMode | None:
    """The mode that makes new tensors fake now, if one does."""
    mode: FakeTensorMode | None = torch._C._get_dispatch_mode(_FAKE)
    return mode


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
def measured_as_fake(
    *, wanted: bool, values: Iterable[Any]
) -> Iterator[FakeTensorMode | None]:
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
    """The mode of the fake tensors among the values, and among the modules' parameters."""
    for leaf in pytree.tree_leaves(list(values)):
        owner = getattr(leaf, "__self__", leaf)
        tensors: Iterable[Any] = (leaf,)
        if isinstance(owner, nn.Module):
            tensors = (*owner.parameters(), *owner.buffers())
        for tensor in tensors:
            if isinstance(tensor, FakeTensor):
                return tensor.fake_mode
    return None


@contextmanager
def _made_for_fakes(stand_ins: StandIns) -> Iterator[None]:
    """A block in which torch's own tools for modules work on fake ones."""
    apply = nn.Module._apply
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
