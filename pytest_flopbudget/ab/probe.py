"""A worker that times one small network as often as it is told, to find a machine's noise.

Reads how many calls to make, one number a line, and answers each with the seconds that they
took: of the wall's clock, on the CPU, and queued for one. It ends with its input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from pytest_flopbudget.meters.slices import SliceTimer

READY: Final = "ready"
"""What it says when it has made the network."""


def main() -> None:
    """Say that the network is there, and then answer every line."""
    with SliceTimer(_network(), (), {}) as timer:
        _say(READY)
        for line in sys.stdin:
            piece = timer.run(int(line))
            _say(f"{piece.wall_s!r} {piece.cpu_s!r} {piece.queued_s!r}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _network() -> Callable[[], object]:
    """Some milliseconds of arithmetic, whose activations are as large as the allocator's traps.

    [512, 256] through 1024 features and back: 0.54 GFLOP, and blocks of 2 MiB.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))
    rows = torch.randn(512, 256)

    def call() -> object:
        with torch.inference_mode():
            return network(rows)

    return call


if __name__ == "__main__":
    main()
