"""Whether two machines are so alike that what depends on them may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TELLING: Final = ("system", "arch", "cpu", "cpu_capability")
"""Facts that decide which kernels run, and so how much scratch they take: with another
instruction set the peak of one ResNet-18 training step was 39 % higher."""


def machine_difference(base: Mapping[str, object], head: Mapping[str, object]) -> str:
    """How the two differ, such as `cpu_capability AVX2, here AVX512`; empty where they do not.

    What neither tells is taken for different.
    """
    known = [name for name in _TELLING if base.get(name) or head.get(name)]
    if not known:
        return "neither tells what it is"
    return ", ".join(
        f"{name} {base.get(name) or 'unknown'}, here {head.get(name) or 'unknown'}"
        for name in known
        if base.get(name) != head.get(name)
    )
