"""A worker that times one small network as often as it is told, to find a machine's noise.

Reads how many calls to make, one number a line, and answers each with the wall and the CPU
seconds that they took. It ends with its input.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

READY = "ready"


def main() -> None:
    """Say that the network is there, and then answer every line."""
    call = _network()
    gc.collect()
    gc.disable()
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        calls = int(line)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for _ in range(calls):
            call()
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        sys.stdout.write(f"{wall_s!r} {cpu_s!r}\n")
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
