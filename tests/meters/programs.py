"""Small programs that use torch in every way there is, each with results to compare.

They are run twice, without and with a counter, from the same random state. Each returns
what it computed, gradients included, in lists, tuples and dicts. They are in the files
`programs_*.py`, and register themselves here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Program = Callable[[], Any]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__.strip("_")] = function
    return function


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3))
