"""The one pass over a region: what every exact metric is read off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock, get_ident
from typing import Any, Final

import torch
from torch import Tensor, nn

from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.core.measurement import (
    UNFINISHED,
    UNHEARD,
    Counts,
    LineSpending,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Uncounted,
    Value,
)
from pytest_flopbudget.meters import eager, hidden, module_calls, storages, threads
from pytest_flopbudget.meters.booking import Row
from pytest_flopbudget.meters.call_stack import CallStack
from pytest_flopbudget.meters.counting import CountingMode
from pytest_flopbudget.meters.detours import REGIONS
from pytest_flopbudget.meters.eager import written
from pytest_flopbudget.meters.lines import SourceLines, shortened
from pytest_flopbudget.meters.modes import take_off
from pytest_flopbudget.meters.modules import ModulePaths
from pytest_flopbudget.meters.storages import Site, StorageLedger
from pytest_flopbudget.meters.threads import ThreadSpread
from pytest_flopbudget.meters.weights import Weights

for _part in (threads, module_calls, hidden):
    REGIONS.always(*_part.DETOURS)
REGIONS.once_loaded(threads.POOLS, threads.detours_of_pools)
REGIONS.once_loaded(eager.COMPILER, eager.detours_of_compiler)
REGIONS.once_loaded(eager.SHARDING, eager.detours_of_sharding)
REGIONS.once_loaded(hidden.RUNTIME, hidden.detours_of_runtime)
REGIONS.once_loaded(hidden.KERNELS, hidden.detours_of_kernels)
REGIONS.once_loaded(hidden.PACKAGES, hidden.detours_of_packages)

_FOR_MEMORY: Final = (*storages.DETOURS, *module_calls.REGISTRATIONS)
_making: Final = RLock()
"""To be held while a region makes what it comes to need: several threads may ask at once."""
_NO_ROW: Final = Row()
_OF_MEMORY: Final = ("bytes_moved", "arithmetic_intensity", "peak_memory", "activation_memory")
_OF_WEIGHTS: Final = ("params", "trainable_params", "model_size")
_ALONE: Final = "arithmetic alone was counted (memory=False)"


class DispatchPass:
    """Counts every operator of this thread, and of those it starts, between enter and exit.

    root: the module that the region will call, when that is known.
    memory: whether bytes, storages and weights are looked at; without, arithmetic alone.
    lines: whether the source line of each operator is noted.
    """

    has_process_memory = False
    """Whether it takes the machine's peaks as well."""

    def __init__(
        self, root: nn.Module | None = None, *, memory: bool = True, lines: bool = False
    ) -> None:
        root = written(root) if root is not None else None
        self._root = root
        self._has_lines = lines
        self._has_memory = memory
        self.paths = ModulePaths(
            root,
            on_root=self._root_begins,
            on_root_done=self._root_ends,
            owner=lambda parameter: self._weights.owner(parameter) or "",
        )
        self._known_weights: Weights | None = None
        self.ledger = StorageLedger(self._weights.labels, self._weights.label) if memory else None
        self._main = self._mode(self.paths.main)
        self._thread = get_ident()
        self._modes = {self._thread: self._main}
        self._all_modes = [self._main]
        self._threads: ThreadSpread | None = None
        self._is_finished = True
        self._is_deaf = False

    def __enter__(self) -> DispatchPass:
        self._thread = get_ident()
        self._modes[self._thread] = self._main
        try:
            self.paths.start()
            REGIONS.enter(self, _FOR_MEMORY if self._has_memory else ())
            self._main.__enter__()
        except BaseException:  # an interrupt: nothing of the region is to be left
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._leave()
        except MeasureError:  # everything is over, and it says what the code did wrong
            raise
        except BaseException:  # an interrupt, which may have come between any two steps
            self._leave()
            raise

    def _leave(self) -> None:
        """End it; what has been ended already stays so."""
        is_elsewhere = get_ident() != self._thread
        try:
            if not is_elsewhere:
                self._is_deaf = not take_off(self._main)
            self._is_finished = self._threads is None or self._threads.is_done
            for mode in self._all_modes:
                mode.close()
        finally:
            try:
                REGIONS.leave(self)
            finally:
                self.paths.stop()
        if self.ledger is not None:
            self.ledger.close()
        if is_elsewhere:
            raise MeasureError("this region was entered on another thread, and is to be left there")
        if self._has_memory and self._root is not None and "" not in self.paths.begun:
            # Its own call was never seen, as with model.generate.
            self._weights.settle("", self._root, has_changed=True)

    @property
    def _weights(self) -> Weights:
        """What the roots own. Of arithmetic alone nearly no question is asked about it."""
        with _making:
            if self._known_weights is None:
                self._known_weights = Weights()
                for path, root in self.paths.roots:
                    self._known_weights.expect(path, root)
            return self._known_weights

    @property
    def threads(self) -> ThreadSpread:
        """What this region hands to other threads."""
        with _making:
            if self._threads is None:
                self._threads = ThreadSpread(self._joining)
            return self._threads

    @property
    def is_here(self) -> bool:
        """Whether this thread works for the region: no other hands it work."""
        return get_ident() in self._modes

    @property
    def operators_here(self) -> int:
        """How many operators were counted that this thread called."""
        return self._mode_here.books.totals()[0]

    def note_hidden(self, what: str, tensors: list[Tensor]) -> None:
        """Report what this thread runs for the region, and what does not show its operators."""
        self._mode_here.books.note_uncounted(what, tensors)

    @property
    def _mode_here(self) -> CountingMode:
        return self._modes.get(get_ident(), self._main)

    @property
    def is_threaded(self) -> bool:
        """Whether the region gave work to other threads."""
        return len(self._all_modes) > 1 or not self._is_finished

    def _root_begins(self, path: str, root: nn.Module) -> None:
        if self._has_memory:
            self._weights.learn(path, root)
        elif torch.is_grad_enabled():
            REGIONS.have(module_calls.REGISTRATIONS)
            self._weights.learn(path, root)
        elif self._known_weights is not None:
            self._known_weights.expect(path, root)

    def _root_ends(self, path: str, root: nn.Module, has_changed: bool) -> None:
        if self._has_memory:
            self._weights.settle(path, root, has_changed)
        elif has_changed and torch.is_grad_enabled():
            self._weights.learn(path, root)  # whose the gradients are is all that is asked

    def _mode(self, calls: CallStack) -> CountingMode:
        place = partial(_path_and_line, calls, SourceLines()) if self._has_lines else None
        return CountingMode(calls, self.ledger, place)

    def _joining(self) -> Callable[[], Any]:
        """What work that is now handed to another thread is done within."""
        here = self._modes.get(get_ident())
        base = here.calls.current() if here is not None else ""
        for mode in self._all_modes:
            mode.books.is_shared = True
        return lambda: self._joined(base)

    @contextmanager
    def _joined(self, base: str) -> Iterator[None]:
        """Work of another thread, on behalf of a path."""
        ident = get_ident()
        if ident in self._modes:
            # Its own work, or a pool that hands work to the thread that waits for it.
            yield
            return
        mode = self._mode(self.paths.follow(base))
        mode.books.is_shared = True
        if not self._main.is_open:
            mode.close()
        self._modes[ident] = mode
        self._all_modes.append(mode)
        try:
            with mode:
                yield
        finally:
            del self._modes[ident]
            self.paths.forget()

    def measurement(
        self, name: str = "", *, is_partial: bool = False, output: Any = None
    ) -> Measurement:
        """Everything exact that was measured between enter and exit.

        flops, macs, int_ops, ops, params, trainable_params: counts; bytes_moved,
        peak_memory, activation_memory, model_size: bytes; arithmetic_intensity: FLOP/B.
        """
        modules = tuple(self._modules())
        total = Counts.total(row.counts for module in modules for row in module.operators)
        values: dict[str, int | float] = {
            "flops": total.flops,
            "macs": total.macs,
            "int_ops": total.int_ops,
        }
        if self.ledger is not None:
            moved = total.bytes_moved
            values |= {
                "bytes_moved": moved,
                "arithmetic_intensity": total.flops / moved if moved else 0.0,
                "peak_memory": total.peak_memory,
                "activation_memory": total.activation_memory,
            }
        values["ops"] = total.ops
        if self._has_memory:
            values |= {
                "params": total.params,
                "trainable_params": total.trainable_params,
                "model_size": total.model_size,
            }
        return Measurement(
            name=name,
            values={metric: Value(value=value) for metric, value in values.items()},
            modules=modules,
            lines=tuple(self._lines()),
            uncounted=tuple(self._uncounted()),
            absent={} if self._has_memory else dict.fromkeys((*_OF_MEMORY, *_OF_WEIGHTS), _ALONE),
            is_partial=is_partial,
            output=output,
        )

    def _uncounted(self) -> Iterator[Uncounted]:
        calls: dict[str, int] = {}
        shapes: dict[str, list[str]] = {}
        for mode in self._all_modes:
            for operator, (times, seen) in mode.books.uncounted.items():
                calls[operator] = calls.get(operator, 0) + times
                shapes.setdefault(operator, seen)
        for operator, times in calls.items():
            yield Uncounted(operator=operator, calls=times, shapes=tuple(shapes[operator]))
        if not self._is_finished:
            yield Uncounted(operator=UNFINISHED, calls=1, shapes=())
        if self._is_deaf:
            yield Uncounted(operator=UNHEARD, calls=1, shapes=())

    def _modules(self) -> Iterator[ModuleSpending]:
        called = self.paths.called
        by_path: dict[str, list[OperatorSpending]] = {path: [] for path in called}
        for (path, operator), counts, calls in self._spendings():
            by_path.setdefault(path, []).append(
                OperatorSpending(operator=operator, calls=calls, counts=counts)
            )
        for path, operators in by_path.items():
            kind, calls = called.get(path, ("", 0))
            yield ModuleSpending(path=path, type=kind, calls=calls, operators=tuple(operators))

    def _rows(self) -> Iterator[tuple[str, str, str, Row]]:
        """Path, line and operator of every row, of all threads."""
        for mode in self._all_modes:
            for operator in mode.books.operators.values():
                for place, row in operator.rows.items():
                    path, line = (place, "") if isinstance(place, str) else place
                    yield path, line, operator.plan.name, row

    def _spendings(self) -> Iterator[tuple[Site, Counts, int]]:
        booked: dict[Site, Row] = {}
        for path, _, operator, row in self._rows():
            known = booked.get((path, operator))
            booked[path, operator] = row if known is None else known + row
        alive = self.ledger.at_peak() if self.ledger is not None else {}
        weights = self._weights.by_site if self._has_memory else {}
        packed = self._weights.packed if self._has_memory else {}
        for site in dict.fromkeys((*booked, *alive, *weights)):
            peak, own = alive.get(site, (0, 0))
            row = booked.get(site, _NO_ROW)
            params, trainable, nbytes = weights.get(site, (0, 0, 0))
            counts = Counts(
                flops=2 * row.macs + row.arithmetic,
                macs=row.macs,
                int_ops=row.int_ops,
                bytes_moved=row.bytes_moved,
                ops=row.calls,
                peak_memory=peak + packed.get(site, 0),
                activation_memory=own,
                params=params,
                trainable_params=trainable,
                model_size=nbytes,
            )
            yield site, counts, row.calls

    def _lines(self) -> Iterator[LineSpending]:
        if not self._has_lines:
            return
        sums: dict[tuple[str, str], tuple[int, Counts]] = {}
        for _, line, operator, row in self._rows():
            calls, counts = sums.get((line, operator), (0, Counts()))
            sums[line, operator] = (calls + row.calls, counts + _counts(row))
        for (line, operator), (calls, counts) in sums.items():
            yield LineSpending(line=shortened(line), operator=operator, calls=calls, counts=counts)


def _path_and_line(calls: CallStack, lines: SourceLines) -> tuple[str, str]:
    return calls.current(), lines.current()


def _counts(row: Row) -> Counts:
    return Counts(
        flops=2 * row.macs + row.arithmetic,
        macs=row.macs,
        int_ops=row.int_ops,
        bytes_moved=row.bytes_moved,
        ops=row.calls,
    )
