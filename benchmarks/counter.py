"""What counting costs: the pass against torch's FlopCounterMode and an empty mode.

Each workload runs plain, under an empty TorchDispatchMode (the floor of anything written
with one), under FlopCounterMode, and under ours: with everything, with everything and read
out by module and operator, and with arithmetic alone. They take turns, in an order that
rotates, and the minimum of each is printed, with what it adds to the plain run as a ratio to
what FlopCounterMode and the empty mode add:

    python benchmarks/counter.py --rounds 15

What is added does not hang on the size of the tensors, and is a few percent of a model's time, as
noise is. The narrow workloads make the same calls on small tensors, and are steadier.

`--cpu` takes the processor's time of the thread in place of the clock's, which is steadier
where others use the machine too.
"""

from __future__ import annotations

import argparse
import contextlib
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
ENOUGH_S = 0.5
"""How long the plain runs of one round should last together: a short workload runs more often."""
MOST = 20


def timed(
    run: Callable[[], object], way: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    started = clock()
    with WAYS[way]() as counter:
        run()
    if way == "ours, read out":
        assert counter.measurement.modules
    return clock() - started


def compare(run: Callable[[], object], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """The least seconds of each way."""
    ways = list(WAYS)
    for way in ways:
        timed(run, way, clock)
    rounds *= min(MOST, max(1, round(ENOUGH_S / timed(run, "plain", clock))))
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds):
        for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            best[way] = min(best[way], timed(run, way, clock))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=15, help="rounds each, of short ones more (default: 15)"
    )
    parser.add_argument("--only", choices=WORKLOADS, help="one workload alone")
    parser.add_argument("--cpu", action="store_true", help="CPU time in place of wall time")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    clock = time.thread_time if arguments.cpu else time.perf_counter
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, 1 thread, least of {rounds} rounds, "
        f"{'CPU' if arguments.cpu else 'wall'} time"
    )
    print(f"{'':18}{'':18}{'ms':>9}{'/ plain':>9}{'added ms':>10}{'/ FCM':>8}{'/ empty':>9}")
    with torch.no_grad():
        for name in [arguments.only] if arguments.only else WORKLOADS:
            make = WORKLOADS[name]
            best = compare(make(), rounds, clock)
            added = {way: seconds - best["plain"] for way, seconds in best.items()}
            for way, seconds in best.items():
                ratios = "".join(
                    f"{added[way] / added[peer]:>{width}.2f}" if added[peer] > 0 else "-" * 4
                    for peer, width in (("FlopCounterMode", 8), ("empty mode", 9))
                )
                print(
                    f"{name:18}{way:18}{seconds * 1e3:>9.2f}{seconds / best['plain']:>9.3f}"
                    f"{added[way] * 1e3:>10.2f}{ratios if way != 'plain' else ''}"
                )


if __name__ == "__main__":
    main()
