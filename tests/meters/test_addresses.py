"""What is at an address where something else was before is not taken for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopbudget import FlopCounter
from pytest_flopbudget.meters.weights import Weights

T = TypeVar("T")
_MOST_TRIES = 20_000


def _made_at(address: int, make: Callable[[], T], where: Callable[[T], int] = id) -> T:
    """What `make` makes at this address, which is free: all that it makes elsewhere is kept."""
    elsewhere = []
    for _ in range(_MOST_TRIES):
        made = make()
        if where(made) == address:
            return made
        elsewhere.append(made)
    raise AssertionError("the address was not used again, and nothing has been tested")


def _train(model: nn.Module) -> None:
    """Two backwards: the second adds to the gradients of the first."""
    for _ in range(2):
        model(torch.ones(2, 4)).sum().backward()


def test_gradient_is_booked_to_its_parameter_where_another_was_at_its_address():
    first = nn.Linear(4, 3, bias=False)
    with FlopCounter(memory=False) as counter:
        _train(first)
        second, values = nn.Linear(4, 3, bias=False), torch.ones(3, 4)
        address = id(first.weight)
        del first
        with _disable_current_modes():  # which make tensors of their own meanwhile
            second.weight = _made_at(address, lambda: nn.Parameter(values))
        _train(second)
    adds = {
        module.path: row.counts.flops
        for module in counter.measurement.modules
        for row in module.operators
        if row.operator == "aten.add_"
    }
    # One more root of the first one's kind; each adds up twelve elements once.
    assert adds == {"": 12, "Linear": 12}


def test_storage_is_its_parameters_where_another_was_at_its_address():
    weights = Weights()
    first = torch.ones(5)
    address = first.untyped_storage()._cdata
    weights.learn([(("old", "parameter"), first)])
    del first
    second = _made_at(address, lambda: torch.ones(5), lambda t: t.untyped_storage()._cdata)
    weights.learn([(("new", "parameter"), second)])
    assert weights.label(second, second.untyped_storage()) == ("new", "parameter")


def test_storage_that_two_modules_share_is_the_firsts():
    weights, tied = Weights(), torch.ones(5)
    weights.learn([(("first", "parameter"), tied), (("second", "parameter"), tied)])
    assert weights.label(tied, tied.untyped_storage()) == ("first", "parameter")
