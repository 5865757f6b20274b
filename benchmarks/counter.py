"""What counting costs: the pass against torch's FlopCounterMode and an empty mode.

Each workload runs plain, under an empty TorchDispatchMode (the floor of anything written
with one), under FlopCounterMode, and under ours: with everything, with everything and read
out by module and operator, and with arithmetic alone. They take turns, in an order that is drawn
anew each time. What a way adds is the median of what it took above the plain run of its turn, with
the standard error of that median (by drawing the turns again), and as a ratio to what
FlopCounterMode and the empty mode add:

    python benchmarks/counter.py --seconds 60

What is added does not hang on the size of the tensors, and is a few percent of a model's time, as
noise is. The narrow workloads make the same calls on small tensors, and need fewer turns.

`--cpu` takes the processor's time of the thread in place of the clock's, which is steadier
where others use the machine too. glibc is told to keep the memory that it is given back: whether
it asks for the same pages again hangs on how a process began, and takes longer than counting.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopbudget import FlopCounter


class EmptyMode(TorchDispatchMode):
    """Hands every operator on."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "plain": contextlib.nullcontext,
    "empty mode": EmptyMode,
    "FlopCounterMode": lambda: FlopCounterMode(display=False),
    "ours, everything": FlopCounter,
    "ours, read out": FlopCounter,
    "ours, arithmetic": lambda: FlopCounter(memory=False),
}


def tiny() -> Callable[[], object]:
    """1000 additions of 16 elements."""
    x, y = torch.randn(4, 4), torch.randn(4, 4)

    def run() -> None:
        for _ in range(1000):
            torch.add(x, y)

    return run


def gpt2(**settings: int) -> Callable[[], object]:
    """GPT-2 small, 128 tokens, or as the settings have it."""
    from transformers import GPT2Config, GPT2Model

    model = GPT2Model(GPT2Config(use_cache=False, **settings)).eval()
    tokens = torch.zeros(1, 128, dtype=torch.long)
    return lambda: model(tokens)


def narrow_gpt2() -> Callable[[], object]:
    """The same calls with 48 channels for 768."""
    return gpt2(n_embd=48)


def resnet50(size: int = 224, **settings: Any) -> Callable[[], object]:
    """ResNet-50, one image of 224 pixels, or as the settings have it."""
    from transformers import ResNetConfig, ResNetModel

    model = ResNetModel(ResNetConfig(**settings)).eval()
    image = torch.randn(1, 3, size, size)
    return lambda: model(image)


def narrow_resnet50() -> Callable[[], object]:
    """The same calls with 8 channels in every layer, and an image of 32 pixels."""
    return resnet50(32, embedding_size=8, hidden_sizes=[8, 8, 8, 8])


def lstm() -> Callable[[], object]:
    """LSTM of two layers, 64 steps."""
    layer = nn.LSTM(128, 256, num_layers=2).eval()
    x = torch.randn(64, 8, 128)
    return lambda: layer(x)


def narrow_lstm() -> Callable[[], object]:
    """The same calls with 8 channels, 4 steps."""
    layer = nn.LSTM(8, 8, num_layers=2).eval()
    x = torch.randn(4, 2, 8)
    return lambda: layer(x)


def linear() -> Callable[[], object]:
    """One linear layer of two features."""
    layer, x = nn.Linear(2, 2), torch.randn(1, 2)
    return lambda: layer(x)


WORKLOADS = {
    "1000 adds": tiny,
    "GPT-2": gpt2,
    "ResNet-50": resnet50,
    "LSTM": lstm,
    "GPT-2, narrow": narrow_gpt2,
    "ResNet-50, narrow": narrow_resnet50,
    "LSTM, narrow": narrow_lstm,
    "linear layer": linear,
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's `mallopt`."""
FEWEST = 5
"""Turns that are taken however long they are."""
DRAWS = 200


def keep_freed_memory() -> None:
    """Have no way pay for pages that another one has given back."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not every C library has it
        for parameter, nbytes in ((M_MMAP_THRESHOLD, 1 << 25), (M_TRIM_THRESHOLD, 1 << 30)):
            if mallopt is not None:
                mallopt(parameter, nbytes)


def timed(
    run: Callable[[], object], way: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    started = clock()
    with WAYS[way]() as counter:
        run()
    if way == "ours, read out":
        assert counter.measurement.modules
    return clock() - started


def compare(
    run: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """The seconds of each way, by turn."""
    ways = list(WAYS)
    for way in ways:
        timed(run, way, clock)
    drawn = random.Random(0)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    until = time.perf_counter() + seconds
    while len(taken["plain"]) < FEWEST or time.perf_counter() < until:
        drawn.shuffle(ways)
        for way in ways:
            taken[way].append(timed(run, way, clock))
    return taken


def added_by(taken: list[float], plain: list[float]) -> tuple[float, float]:
    """The median of what a way adds to the plain run of its turn, and its standard error."""
    added = [way - alone for way, alone in zip(taken, plain, strict=True)]
    drawn = random.Random(0)
    medians = [statistics.median(drawn.choices(added, k=len(added))) for _ in range(DRAWS)]
    return statistics.median(added), statistics.stdev(medians)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="for each workload (default: 60)")
    parser.add_argument("--only", choices=WORKLOADS, help="one workload alone")
    parser.add_argument("--cpu", action="store_true", help="CPU time in place of wall time")
    arguments = parser.parse_args()
    clock = time.thread_time if arguments.cpu else time.perf_counter
    torch.set_num_threads(1)
    keep_freed_memory()
    print(
        f"torch {torch.__version__}, 1 thread, {arguments.seconds:g} s for each workload, "
        f"{'CPU' if arguments.cpu else 'wall'} time"
    )
    print(f"{'':18}{'':18}{'ms':>9}{'/ plain':>9}{'added ms':>17}{'/ FCM':>8}{'/ empty':>9}")
    with torch.no_grad():
        for name in [arguments.only] if arguments.only else WORKLOADS:
            make = WORKLOADS[name]
            taken = compare(make(), arguments.seconds, clock)
            plain = statistics.median(taken["plain"])
            added = {way: added_by(times, taken["plain"]) for way, times in taken.items()}
            for way, (more, error) in added.items():
                ratios = "".join(
                    f"{more / added[peer][0]:>{width}.2f}" if added[peer][0] > 0 else "-" * 4
                    for peer, width in (("FlopCounterMode", 8), ("empty mode", 9))
                )
                print(
                    f"{name:18}{way:18}{(plain + more) * 1e3:>9.2f}{1 + more / plain:>9.3f}"
                    f"{more * 1e3:>9.3f} +-{error * 1e3:>5.3f}{ratios if way != 'plain' else ''}",
                    flush=True,
                )
            print(f"{name:18}{len(taken['plain'])} turns")


if __name__ == "__main__":
    main()
