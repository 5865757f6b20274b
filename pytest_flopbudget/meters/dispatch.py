"""The one pass: every operator goes through here once, and everything exact is read off it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopbudget.core.measurement import (
    IN_ANOTHER_THREAD,
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Uncounted,
    Value,
)
from pytest_flopbudget.meters.formulas.registry import Work
from pytest_flopbudget.meters.modules import ModulePaths
from pytest_flopbudget.meters.plans import Plan, Road, plan_for
from pytest_flopbudget.meters.storages import Site, StorageLedger
from pytest_flopbudget.meters.threads import ThreadWatch
from pytest_flopbudget.meters.traffic import bytes_moved
from pytest_flopbudget.meters.traffic import tensors_in as _tensors
from pytest_flopbudget.meters.weights import Weights

_ORDINARY: Final = frozenset({Tensor, nn.Parameter, nn.Buffer})
_FLOATING: Final = frozenset(
    dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and (dtype.is_floating_point or dtype.is_complex)
)
SPARSE: Final = frozenset(
    {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
)
_TRUTH: Final = frozenset({torch.bool})
_MOST_SHAPES: Final = 4
"""How many distinct argument shapes of an uncounted operator are kept."""


class _Row:
    """Running sums of one operator under one module."""

    __slots__ = ("arithmetic", "bytes_moved", "calls", "int_ops", "macs", "ops")

    def __init__(self) -> None:
        self.calls = self.arithmetic = self.macs = self.int_ops = self.bytes_moved = self.ops = 0


class DispatchPass(TorchDispatchMode):
    """Counts every operator of this thread between enter and exit.

    root: the module that the region will call, when that is known.
    Operators of threads that the region starts are reported as uncounted.
    """

    supports_higher_order_operators = True

    def __init__(self, root: nn.Module | None = None) -> None:
        super().__init__()
        self._root = root
        # Plans are kept for one pass alone, so that a formula registered later is found.
        self._plans: dict[Any, Plan] = {}
        self._rows: dict[Site, _Row] = {}
        self._uncounted: dict[str, tuple[int, list[str]]] = {}
        self._weights = Weights()
        self._ledger = StorageLedger(self._weights.label)
        self._paths = ModulePaths(
            root, on_root=self._weights.learn, on_root_done=self._weights.count
        )
        self._threads = ThreadWatch(self._note_elsewhere)
        self._depth = 0

    def __enter__(self) -> DispatchPass:
        if self._depth == 0:
            self._paths.start()
            self._threads.start()
        self._depth += 1
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._depth -= 1
        if self._depth == 0:
            self._threads.stop()
            self._paths.stop()
            self._ledger.close()
            if self._root is not None:
                # Also when its own call was never seen, as with model.generate.
                self._weights.count("", self._root)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        plan = self._plans.get(func)
        if plan is None:
            plan = self._plans[func] = plan_for(func)
        if types and not _ORDINARY.issuperset(types) and _must_desugar(types):
            return NotImplemented
        road = plan.road
        if road is Road.VIEW:
            return self._pass_view(func, plan, args, kwargs)
        has_parts = road is Road.DECOMPOSE or road is Road.LOOK_INSIDE
        # torch's Python decompositions ask for sizes, which a nested tensor has none of.
        if has_parts and not any(tensor.is_nested for tensor in _tensors(args)):
            with self:
                if road is Road.DECOMPOSE:
                    result = func.decompose(*args, **kwargs)
                else:
                    result = func._op_dk(torch._C.DispatchKey.CPU, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return self._pass_operator(func, plan, args, kwargs)

    def _pass_view(self, func: Any, plan: Plan, args: Any, kwargs: Any) -> Any:
        path = self._paths.current()
        ledger = self._ledger
        if plan.name != "aten.lift_fresh":
            # What lift_fresh takes was made from Python numbers just now: it is new.
            for tensor in _tensors(args):
                ledger.touch(tensor, path)
        result = func(*args, **kwargs)
        for tensor in _tensors((result,)):
            ledger.produce(tensor, (path, plan.name))
        return result

    def _pass_operator(self, func: Any, plan: Plan, args: Any, kwargs: Any) -> Any:
        path = self._paths.current()
        site = (path, plan.name)
        ledger = self._ledger
        inputs = _tensors(args)
        if kwargs:
            inputs += _tensors(kwargs.values())
        for tensor in inputs:
            ledger.touch(tensor, path)
        result = func(*args, **kwargs)
        outputs = _tensors((result,))
        for tensor in outputs:
            ledger.produce(tensor, site)
        for position in plan.written:
            for tensor in _tensors(args[position : position + 1]):
                ledger.produce(tensor, site)
        row = self._rows.get(site)
        if row is None:
            row = self._rows[site] = _Row()
        row.calls += 1
        row.ops += 1
        row.bytes_moved += bytes_moved(plan, args, kwargs, inputs, outputs)
        if plan.road is not Road.FREE:
            work = _work(plan, args, kwargs, result, inputs, outputs)
            self._book(row, plan, work, inputs, outputs)
        return result

    def _book(self, row: _Row, plan: Plan, work: Work | None, inputs: Any, outputs: Any) -> None:
        if work is None:
            self._note_uncounted(plan.overload, inputs)
            return
        row.int_ops += work.int_ops
        dtypes = {tensor.dtype for tensor in inputs}
        dtypes.update([tensor.dtype for tensor in outputs])
        if not dtypes.isdisjoint(_FLOATING):
            row.macs += work.macs
            row.arithmetic += work.arithmetic
        elif dtypes != _TRUTH:
            # Integers; truth values alone are logic, and cost no arithmetic.
            row.int_ops += 2 * work.macs + work.arithmetic

    def _note_uncounted(self, operator: str, inputs: list[Tensor]) -> None:
        calls, shapes = self._uncounted.get(operator, (0, []))
        shape = ", ".join(_describe(tensor) for tensor in inputs)
        if shape not in shapes and len(shapes) < _MOST_SHAPES:
            shapes.append(shape)
        self._uncounted[operator] = (calls + 1, shapes)

    def _note_elsewhere(self, func: Any, args: Any, kwargs: Any) -> None:
        """Report an operator of another thread, unless it would not have counted here."""
        plan = plan_for(func)
        if plan.road not in (Road.VIEW, Road.FREE):
            inputs = _tensors((*args, *kwargs.values()))
            self._note_uncounted(plan.overload + IN_ANOTHER_THREAD, inputs)

    def measurement(
        self, name: str = "", *, is_partial: bool = False, output: Any = None
    ) -> Measurement:
        """Everything exact that was measured between enter and exit.

        flops, macs, int_ops, ops, params, trainable_params: counts; bytes_moved,
        peak_memory, activation_memory, model_size: bytes; arithmetic_intensity: FLOP/B.
        """
        modules = tuple(self._modules())
        total = Counts.total(module.own for module in modules)
        values: dict[str, int | float] = {
            "flops": total.flops,
            "macs": total.macs,
            "int_ops": total.int_ops,
            "bytes_moved": total.bytes_moved,
            "arithmetic_intensity": total.flops / total.bytes_moved if total.bytes_moved else 0.0,
            "peak_memory": total.peak_memory,
            "activation_memory": total.activation_memory,
            "ops": total.ops,
            "params": total.params,
            "trainable_params": total.trainable_params,
            "model_size": total.model_size,
        }
        return Measurement(
            name=name,
            values={metric: Value(value=value) for metric, value in values.items()},
            modules=modules,
            uncounted=tuple(
                Uncounted(operator=operator, calls=calls, shapes=tuple(shapes))
                for operator, (calls, shapes) in self._uncounted.items()
            ),
            is_partial=is_partial,
            output=output,
        )

    def _modules(self) -> Iterator[ModuleSpending]:
        by_path: dict[str, list[OperatorSpending]] = {path: [] for path in self._paths.called}
        for (path, operator), counts, calls in self._spendings():
            by_path.setdefault(path, []).append(
                OperatorSpending(operator=operator, calls=calls, counts=counts)
            )
        for path, operators in by_path.items():
            called = self._paths.called.get(path)
            yield ModuleSpending(
                path=path,
                type=called.type if called else "",
                calls=called.calls if called else 0,
                operators=tuple(operators),
            )

    def _spendings(self) -> Iterator[tuple[Site, Counts, int]]:
        alive = self._ledger.at_peak()
        weights = self._weights.by_site
        for site in dict.fromkeys((*self._rows, *alive, *weights)):
            row = self._rows.get(site) or _Row()
            peak, own = alive.get(site, (0, 0))
            counts = Counts(
                flops=2 * row.macs + row.arithmetic,
                macs=row.macs,
                int_ops=row.int_ops,
                bytes_moved=row.bytes_moved,
                ops=row.ops,
                peak_memory=peak,
                activation_memory=own,
            )
            yield site, counts + weights.get(site, Counts()), row.calls


def _must_desugar(types: Any) -> bool:
    """Whether a wrapper subclass is among the arguments, whose own dispatch comes first."""
    from torch._subclasses import FakeTensor

    return any(
        cls not in _ORDINARY and not issubclass(cls, FakeTensor | nn.Parameter) for cls in types
    )


def _work(
    plan: Plan,
    args: Any,
    kwargs: Any,
    result: Any,
    inputs: list[Tensor],
    outputs: list[Tensor],
) -> Work | None:
    """What the formula says, or None when there is none for this call."""
    rule = plan.formula
    for tensor in (*inputs, *outputs):
        if tensor.layout in SPARSE:
            rule = plan.sparse_formula  # it costs by its non-zeros, not by its shape
            break
    if rule is None or any(tensor.is_nested for tensor in inputs):
        return None
    if plan.written_keywords:
        kwargs = {key: v for key, v in kwargs.items() if key not in plan.written_keywords}
    work = rule(*args, **kwargs, out=result)
    return Work(arithmetic=work) if isinstance(work, int) else work


def _describe(tensor: Tensor) -> str:
    from pytest_flopbudget.meters.dtypes import short_name

    if tensor.is_nested:
        return f"{short_name(tensor.dtype)}[nested]"
    return f"{short_name(tensor.dtype)}[{','.join(str(size) for size in tensor.shape)}]"
