"""A worker that times one small network as often as it is told, to find a machine's noise.

Reads how many calls to make, one number a line, and answers each with the seconds that they
took: of the wall's clock, on the CPU, and queued for one. It ends with its input. Its argument,
if it has one, is the core to do that on.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Final

from pytest_flopbudget.meters.slices import SliceTimer
from pytest_flopbudget.session.cores import stay_on

READY: Final = "ready"
"""What it says when it has made the network."""


def main() -> None:
    """Say that the network is there, and then answer every line."""
    # Of what is imported nothing is garbage: a tenth of the time goes into looking for it.
    gc.disable()
    network = _network()
    gc.enable()
    if len(sys.argv) > 1:
        stay_on(int(sys.argv[1]))
    with SliceTimer(network, (), {}) as timer:
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
