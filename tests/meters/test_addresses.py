"""What is at an address where something else was before is not taken for that.

The addresses are given here: whether one is used again is the allocator's choice, which is another
one in each run.
"""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn

from pytest_flopbudget import FlopCounter
from pytest_flopbudget.meters import weights


def _train(model: nn.Module) -> None:
    """Two backwards: the second adds to the gradients of the first."""
    for _ in range(2):
        model(torch.ones(2, 4)).sum().backward()


def test_gradient_is_booked_to_its_parameter_where_another_was_at_its_address(
    monkeypatch: pytest.MonkeyPatch,
):
    def address(thing: object) -> int:
        return 0 if isinstance(thing, nn.Parameter) else id(thing)

    monkeypatch.setattr(weights, "id", address, raising=False)
    model = nn.Linear(4, 3, bias=False)
    with FlopCounter(memory=False) as counter:
        _train(model)
        weight = weakref.ref(model.weight)
        model = nn.Linear(4, 3, bias=False)
        assert weight() is None
        _train(model)
    adds = {
        module.path: row.counts.flops
        for module in counter.measurement.modules
        for row in module.operators
        if row.operator == "aten.add_"
    }
    # The second root of its kind has the name of its class; each adds up twelve elements once.
    assert adds == {"": 12, "Linear": 12}


def test_storage_is_its_parameters_where_another_was_at_its_address(
    monkeypatch: pytest.MonkeyPatch,
):
    def address(thing: object) -> int:
        return 0 if isinstance(thing, torch.UntypedStorage) else id(thing)

    monkeypatch.setattr(weights, "id", address, raising=False)
    known, old, new = weights.Weights(), _Holder(), _Holder()
    known.learn("old", old)
    assert known.label(old.weight, old.weight.untyped_storage()) == ("old", "parameter")
    assert known.label(new.weight, new.weight.untyped_storage()) is None
    known.learn("new", new)
    assert known.label(new.weight, new.weight.untyped_storage()) == ("new", "parameter")


def test_storage_that_two_modules_share_is_the_firsts():
    known, first, second = weights.Weights(), _Holder(), _Holder()
    second.weight = nn.Parameter(first.weight.detach())  # another tensor on the same storage
    known.learn("", nn.ModuleDict({"first": first, "second": second}))
    storage = first.weight.untyped_storage()
    assert known.label(second.weight, storage) == ("first", "parameter")
    # A gradient is its own tensor's, as long as one is wanted.
    assert [known.owner(holder.weight) for holder in (first, second)] == ["first", "second"]


class _Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))


class _Deep(nn.Module):
    """Calls a module of a holder that it never calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = nn.Module()
        self.holder.inner = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.holder.inner(x)


def test_module_that_takes_anothers_place_has_its_path_also_at_another_address():
    model, other, x = _Deep(), nn.ReLU(), torch.ones(5)
    with FlopCounter(memory=False) as counter:
        model(x)
        model.holder.inner = other
        model(x)
    own = {path: counts.own.flops for path, counts in counter.by_module.items()}
    assert own == {"": 0, "holder": 0, "holder.inner": 2 * 5}
