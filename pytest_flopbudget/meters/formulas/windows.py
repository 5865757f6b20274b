"""Windows of signals and logarithmic spacings, element by element of their definitions.

What the other operators write that take no tensor (`arange`, `linspace`, ...) is free.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import formula


@formula("hann_window", "hamming_window")
def cosine_window(*_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a Hann or Hamming window.

    out: [n]
    Counts, for each element of out, a multiply, a cosine, a multiply and an add: 4.
    Source: `alpha - beta * cos(2 * pi / (n - 1) * i)`, with constants computed once.
    """
    return 4 * out.numel()


@formula("blackman_window")
def blackman_window(*_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a Blackman window.

    out: [n]
    Counts, for each element of out, two cosines of a multiple each, with a factor each
    (6), an add and a subtraction: 8.
    Source: `0.42 - 0.5 * cos(2 * pi / (n - 1) * i) + 0.08 * cos(4 * pi / (n - 1) * i)`.
    """
    return 8 * out.numel()


@formula("bartlett_window")
def bartlett_window(*_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a Bartlett window.

    out: [n]
    Counts, for each element of out, a multiply, and a subtraction and an absolute value,
    and the subtraction from one: 4.
    Source: `1 - abs(2 / (n - 1) * i - 1)`, the definition in the documentation of
    torch.bartlett_window.
    """
    return 4 * out.numel()


@formula("kaiser_window")
def kaiser_window(*_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of a Kaiser window.

    out: [n]
    Counts, for each element of out, a multiply and a subtraction for its place, a square, a
    subtraction, a root, a multiply by beta, a Bessel function and a multiply: 8.
    Source: `I0(beta * sqrt(1 - (2 / (n - 1) * i - 1)**2)) / I0(beta)`, with the last
    computed once.
    """
    return 8 * out.numel()


@formula("logspace")
def logspace(*_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of numbers that are spaced evenly on a logarithmic scale.

    out: [n]
    Counts one power for each element of out; the exponents are free, as for linspace.
    Source: the definition in the documentation of torch.logspace.
    """
    return out.numel()
