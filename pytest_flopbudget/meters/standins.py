"""Real tensors among fake ones: what stands in for them, and putting things back."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.utils import _pytree as pytree
from torch.utils._foreach_utils import _foreach_supported_types
from torch.utils._python_dispatch import (
    _disable_current_modes,
    _get_current_dispatch_mode_stack,
)

from pytest_flopbudget.meters.cpu_results import hold
from pytest_flopbudget.meters.detours import Detour
from pytest_flopbudget.meters.modes import EagerMode
from pytest_flopbudget.meters.plans import has_kernel
from pytest_flopbudget.meters.storages import PLAIN
from pytest_flopbudget.meters.unfakeable import NO_CUDA, TO_NUMPY, UnfakeableError, quiet
from pytest_flopbudget.meters.weights import ORIGINALS

_OURS: Final = (FakeTensor, nn.Parameter, nn.Buffer)
_LOG: Final = logging.getLogger("torch._subclasses.fake_tensor")
LONGEST_CONSTANT: Final = 1024
"""Elements of a list of numbers whose values are kept."""
_WHOLE: Final = frozenset({torch.int64, torch.int32})
_READS: Final = frozenset({torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default})
_COMPOSITE: Final = torch._C.DispatchKey.CompositeImplicitAutograd
PACK: Final = torch.ops.aten._pack_padded_sequence.default
_LIFTS: Final = frozenset(
    {torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default}
)
"""Take a tensor that was made from Python numbers just now."""
_DEVICE: Final = torch.ops.prim.device.default
_set_versions: Final[Any] = torch._C._autograd._unsafe_set_version_counter
_current_node: Final[Any] = torch._C._current_autograd_node
_ACCUMULATE: Final = (1 << 64) - 1
"""The sequence number of every AccumulateGrad node."""


class StandIns(EagerMode):
    """Gives every operator fake tensors in place of real ones.

    It stands above the counter, so that the counter sees fake tensors alone: a real
    parameter and a view of its stand-in would be two storages to it. Afterwards what
    was real before has no fake tensor in it: gradients, parameters, buffers and other
    tensors of modules, the state of optimisers.
    """

    supports_higher_order_operators = True

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode = mode
        self._fakes: dict[int, tuple[weakref.ref[Tensor], FakeTensor, int | None]] = {}
        """By the id of a real tensor: it, its stand-in, and how often it had been changed."""
        self._gradients: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._modules: dict[int, _Module] = {}
        self._optimizers: dict[int, _Optimizer] = {}
        self._handles: list[Any] = []
        self._outer: StandIns | None = None
        self._is_first = True
        """Whether no other one stands above this one; the first to hear hands real lists out."""
        self._only_read: set[int] = set()
        """Ids of those real tensors that nothing has used but to read their one value."""
        self._has_lists = False
        """Whether the operator that is being given stand-ins takes a list of whole numbers."""

    def __enter__(self) -> StandIns:
        if not self._handles:
            self._handles = [
                register_module_forward_pre_hook(lambda module, _args: self._note(module)),
                register_optimizer_step_pre_hook(self._note_optimizer),
            ]
        # torch's own rule for what its foreach operators take, which fake tensors do.
        _foreach_supported_types.append(FakeTensor)
        _LOG.addFilter(quiet)
        self._outer = _innermost()
        if self._outer is not None:
            self._outer._is_first = False
        super().__enter__()
        _NUMPY.enter()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        _NUMPY.leave()
        if self._outer is not None:
            self._outer._is_first = True
        _foreach_supported_types.remove(FakeTensor)
        _LOG.removeFilter(quiet)
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._put_versions_back()
        for variable, gradient in self._gradients.values():
            if isinstance(variable.grad, FakeTensor):
                variable.grad = gradient
        for module in self._modules.values():
            module.put_back()
        for optimizer in self._optimizers.values():
            optimizer.put_back()
        for kept in (self._fakes, self._gradients, self._modules, self._optimizers):
            kept.clear()
        self._only_read.clear()

    def _put_versions_back(self) -> None:
        """Have no real tensor seem changed, as graphs that hold it would then not run backward."""
        for reference, _, version in self._fakes.values():
            real = reference()
            if real is not None and version is not None and real._version != version:
                _set_versions((real,), (version,))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].device  # two calls in three; nothing below would answer otherwise
        if not all(issubclass(cls, _OURS) for cls in types):
            return NotImplemented  # a wrapper, which calls operators on what it wraps
        self._note_gradient()
        if func in _READS and type(args[0]) in PLAIN:
            return self._read(func, args[0])
        kwargs = kwargs or {}
        given = args, kwargs
        self._has_lists = func is PACK
        if func not in _LIFTS:
            args = self._faked(args, func)
            kwargs = dict(zip(kwargs, self._faked(tuple(kwargs.values()), func), strict=True))
            if kwargs.get("device") is not None:
                _refuse_foreign(torch.device(kwargs["device"]))
        has_lists = self._has_lists
        if has_lists and has_kernel(func, _COMPOSITE):
            with self._heard_again():  # it may read a list without asking anyone
                return func._op_dk(_COMPOSITE, *given[0], **given[1])
        result = func(*args, **kwargs)
        if has_lists and self._is_first:
            return pytree.tree_map_only(FakeTensor, self._real_list, result)
        _refuse_sparse(result)
        return result

    def _note_gradient(self) -> None:
        """Have the gradient of a real variable, which is about to be summed up, put back."""
        node = _current_node()
        if node is not None and node._sequence_nr() == _ACCUMULATE:
            variable = node.variable
            if not isinstance(variable, FakeTensor) and id(variable) not in self._gradients:
                self._gradients[id(variable)] = (variable, variable.grad)

    def _read(self, func: Any, real: Tensor) -> Any:
        """The value of a real number, which is known while nothing but this has used it."""
        is_new = self._known(real) is None
        made = self._fake_of(real)
        if is_new:
            self._only_read.add(id(real))
        if made.constant is not None or id(real) not in self._only_read:
            return func(made)
        with _disable_current_modes():
            made.constant = real.detach()  # for this once: what uses it may change it
        try:
            return func(made)
        finally:
            made.constant = None

    @contextmanager
    def _heard_again(self) -> Iterator[None]:
        """A block in which the parts of an operator that came here come here too."""
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__(None, None, None)

    def arguments(self, values: Any) -> Any:
        """Arguments of a call with fake tensors for the real ones, in containers too.

        A tensor with a graph behind it stays: its backward goes on into that graph. So do
        lengths of sequences, which recurrent layers read.
        """
        leaves = pytree.tree_leaves(values)
        if not any(_is_argument(leaf) for leaf in leaves):
            return values
        return pytree.tree_map(
            lambda leaf: self._fake_of(leaf) if _is_argument(leaf) else leaf, values
        )

    def value_of(self, real: Tensor) -> Tensor:
        """A real tensor with the values that it has for the code; the one given, or a copy.

        Raises UnfakeableError where something has used it, and may have changed it.
        """
        known = self._known(real)
        if known is None or id(real) in self._only_read:
            return real
        if known.constant is None:
            raise UnfakeableError(TO_NUMPY)
        return known.constant

    def note_module(self, root: nn.Module) -> None:
        """Have a module and those below it put back as they are now."""
        for module in root.modules():
            self._note(module)

    def _note(self, module: nn.Module) -> None:
        if any(p is not None and nn.parameter.is_lazy(p) for p in module._parameters.values()):
            raise UnfakeableError(
                f"calls a {type(module).__name__} that has no sizes yet; run it once on real "
                "tensors before it is measured on fake ones"
            )
        if id(module) in self._modules:
            return
        # One that is fake stays so, if only for now, as where it is called with other parameters.
        values = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        if not any(isinstance(value, FakeTensor) for value in values):
            self._modules[id(module)] = _Module(module)

    def _note_optimizer(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if id(optimizer) not in self._optimizers:
            self._optimizers[id(optimizer)] = _Optimizer(optimizer)

    def _faked(self, values: Sequence[Any], func: Any) -> Any:
        """The values with a stand-in for each real tensor; the same ones if there is none."""
        changed: list[Any] | None = None
        for at, value in enumerate(values):
            new = value
            if isinstance(value, Tensor):
                new = self._stand_in(value, func)
            elif isinstance(value, list | tuple) and value:
                new = self._faked(value, func)
            if new is not value:
                if changed is None:
                    changed = list(values)
                changed[at] = new
        if changed is None:
            return values
        return changed if isinstance(values, list) else tuple(changed)

    def _stand_in(self, tensor: Tensor, func: Any) -> Tensor:
        """What the operator gets in place of the tensor."""
        if type(tensor) in PLAIN:
            if _changes_sizes(func):
                raise UnfakeableError(
                    "changes the sizes of a real tensor in place, while fake tensors are "
                    "measured; pass it as an argument of the measured call"
                )
            if are_lengths(tensor):
                self._has_lists |= isinstance(func, OpOverload) and not func._schema.is_mutable
            self._only_read.discard(id(tensor))
            return self._fake_of(tensor)
        _refuse_sparse(tensor)
        return tensor

    def _real_list(self, made: FakeTensor) -> Tensor:
        """A real list, whose stand-in this is, in place of one that was worked out from others.

        Kernels read such a list without asking anyone, as recurrent layers do with their batches.
        """
        if made.constant is None or not are_lengths(made):
            return made
        with _disable_current_modes():
            real = made.constant.detach()
        self._keep(real, made)
        return real

    def _known(self, real: Tensor) -> FakeTensor | None:
        """The stand-in that a real tensor has."""
        known = self._fakes.get(id(real))
        return known[1] if known is not None and known[0]() is real else None

    def _keep(self, real: Tensor, made: FakeTensor) -> None:
        key = id(real)
        self._only_read.discard(key)
        version = None if real.is_inference() else real._version

        def forget(_reference: object) -> None:
            self._fakes.pop(key, None)

        self._fakes[key] = (weakref.ref(real, forget), made, version)

    def _fake_of(self, real: Tensor) -> FakeTensor:
        known = self._known(real)
        if known is not None:
            return known
        if real.layout is not torch.strided:
            raise UnfakeableError(
                f"uses a tensor of layout {real.layout}, which a fake one cannot stand for; "
                "measure without fake"
            )
        converter = self._mode.fake_tensor_converter
        with _disable_current_modes():  # making a stand-in is no work of the code's
            if _is_number(real) or are_lengths(real):
                # Code reads such values: an optimiser its step, a recurrent layer its batches.
                with torch.inference_mode(mode=False):  # views of it are views also in there
                    number = real.detach().clone()
                made = converter.from_real_tensor(self._mode, number, make_constant=True)
            else:
                # Its graph, if it has one, lies above the operators and stays the real one's.
                plain = real if real.grad_fn is None else real.detach()
                made = converter.from_real_tensor(self._mode, plain)
            hold_as_much(made, real)
            if isinstance(made.grad, FakeTensor) and real.grad is not None:
                hold_as_much(made.grad, real.grad)
        ORIGINALS[made] = weakref.ref(real)
        self._keep(real, made)
        return made


def _innermost() -> StandIns | None:
    """The stand-ins that this thread's operators come to first, if there are any."""
    modes = reversed(_get_current_dispatch_mode_stack())
    return next((mode for mode in modes if isinstance(mode, StandIns)), None)


class _Numpy:
    """`Tensor.numpy` of real tensors, which reads data and asks no mode, while there are fakes."""

    def __init__(self) -> None:
        self._detour = Detour(Tensor, "numpy", self._around)
        self._depth = 0

    def enter(self) -> None:
        """Put it in place, or note that it is to stay for one more."""
        if not self._depth:
            self._detour.replace()
        self._depth += 1

    def leave(self) -> None:
        """Take it away, if this was the last."""
        self._depth -= 1
        if not self._depth:
            self._detour.restore()

    @staticmethod
    def _around(original: Callable[..., Any]) -> Callable[..., Any]:
        def numpy(tensor: Tensor, *args: Any, **options: Any) -> Any:
            stand_ins = _innermost()
            if stand_ins is None or type(tensor) not in PLAIN:
                return original(tensor, *args, **options)
            known = stand_ins.value_of(tensor)
            with _disable_current_modes():
                return original(known, *args, **options)

        return numpy


_NUMPY: Final = _Numpy()


class _Module:
    """A module as it was: its parameters, buffers and attributes."""

    def __init__(self, module: nn.Module) -> None:
        self._tables = [
            (table, dict(table)) for table in (module._parameters, module._buffers, vars(module))
        ]

    def put_back(self) -> None:
        """Put back what has become fake."""
        for table, was in self._tables:
            for name, value in list(table.items()):
                if isinstance(value, FakeTensor):
                    if name in was:
                        table[name] = was[name]
                    else:
                        del table[name]


class _Optimizer:
    """An optimiser's state as it was."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._state = {key: dict(state) for key, state in optimizer.state.items()}

    def put_back(self) -> None:
        """Put the state of real parameters back."""
        state = self._optimizer.state
        for key in [key for key in state if not isinstance(key, FakeTensor)]:
            if key in self._state:
                state[key] = self._state[key]
            else:
                del state[key]


def are_lengths(tensor: Tensor) -> bool:
    """Whether it may be the lengths of sequences: a short list of whole numbers."""
    return (
        tensor.dim() == 1
        and tensor.dtype in _WHOLE
        and tensor.numel() <= LONGEST_CONSTANT
        and tensor.device.type == "cpu"
    )


def _refuse_sparse(value: Any) -> None:
    """Refuse a fake tensor of another layout than the plain one."""
    if isinstance(value, FakeTensor) and value.layout is not torch.strided:
        raise UnfakeableError(
            f"uses a fake tensor of layout {value.layout}, whose cost depends on how many "
            "elements it holds, which a fake one does not know; measure without fake"
        )


def _refuse_foreign(device: torch.device) -> None:
    if device.type == "cuda" and not torch.backends.cuda.is_built():
        # torch aborts the whole process at the first gradient of such a tensor.
        raise UnfakeableError(NO_CUDA)


def hold_as_much(made: FakeTensor, real: Tensor) -> None:
    """Give a stand-in's storage the bytes of the real one's, which may be more than it shows."""
    hold(made, real.untyped_storage().nbytes())


def _is_argument(leaf: Any) -> bool:
    return (
        type(leaf) in PLAIN
        and leaf.grad_fn is None
        and not are_lengths(leaf)
        and not torch._C._functorch.is_functorch_wrapped_tensor(leaf)
    )


def _is_number(real: Tensor) -> bool:
    return (
        real.numel() == 1
        and real.device.type == "cpu"
        and not real.is_quantized
        and not (real.requires_grad and real.is_leaf)
    )


def _changes_sizes(func: Any) -> bool:
    return torch.Tag.inplace_view in getattr(func, "tags", ()) and (
        func is not torch.ops.aten.detach_.default
    )
