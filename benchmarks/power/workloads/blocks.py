"""Workloads of equal units, so that a growth is exact: 105 units against 100 are +5 %.

What a unit allocates stays until the call ends, as the activations of a training step do.
That is where processes of the same code differ: by default the allocator of some gives the
memory back after each call and takes it anew, which costs the system's time, and others keep it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

UNITS = 100


class Encoder(nn.Module):
    """One block like a transformer encoder's: 64 tokens attend to each other; two layers.

    x: [64, 32] -> [64, 32]
    """

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(32, 64)
        self.narrow = nn.Linear(64, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.softmax(x @ x.T, -1) @ x
        out: torch.Tensor = self.norm(x + self.narrow(functional.relu(self.widen(x))))
        return out


class Stages(nn.Module):
    """Two stages of a small CNN. The first one's output, 196 KB, exceeds glibc's first
    threshold of 128 KB, above which memory is taken from the system and given back.

    x: [1, 3, 64, 64] -> [1, 12, 64, 64], [1, 12, 32, 32]
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = functional.relu(self.first(x))
        return first, functional.relu(self.second(functional.max_pool2d(first, 2)))


def w5(units: int) -> Callable[[], object]:
    """About 5 ms: each unit works on the output of the one before."""
    block = Encoder().eval()
    x = torch.randn(64, 32)

    @torch.inference_mode()
    def call() -> torch.Tensor:
        kept = [x]
        for _ in range(units):
            kept.append(block(kept[-1]))
        return kept[-1]

    return call


def w50(units: int) -> Callable[[], object]:
    """About 50 ms: each unit works on the same image."""
    block = Stages().eval()
    image = torch.randn(1, 3, 64, 64)

    @torch.inference_mode()
    def call() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [block(image) for _ in range(units)]

    return call


def built(workload: str, growth: int) -> Callable[[], object]:
    """A call of so many per cent more units than the base has."""
    torch.manual_seed(0)
    return {"w5": w5, "w50": w50}[workload](UNITS + growth)
