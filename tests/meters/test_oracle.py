"""Random networks: every count is what an oracle of layer shapes says, to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_flopbudget import Measurement, measure
from pytest_flopbudget.core.measurement import Counts

from .networks import Network, derived_networks, networks
from .oracle import (
    Chain,
    Dropout,
    Flatten,
    Flow,
    Layer,
    Linear,
    Mode,
    Patches,
    Pointwise,
    Residual,
    Tally,
    Twice,
    expected_bytes,
)
from .oracle_images import Conv, Norm, Pool
from .oracle_sequence import Grouped, MeanOverTime, Multihead, Recurrent, Softmax

# torch says once that it takes its own road for these.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

FEW = settings(
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MANY = settings(FEW, derandomize=False, max_examples=1500)
CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad": torch.enable_grad,
}


def walk(network: Network, mode: Mode) -> tuple[Tally, Flow]:
    tally = Tally()
    flow = Flow(shape=network.shape, needs=network.asks)
    result = network.layer.walk(flow, "", mode, tally)
    return tally, result


def make_input(network: Network) -> torch.Tensor:
    if network.words:
        return torch.randint(network.words, network.shape)
    return torch.rand(network.shape).requires_grad_(network.asks)


def forget_gradients(model: nn.Module, x: torch.Tensor) -> None:
    model.zero_grad(set_to_none=True)
    x.grad = None


def own_macs(measurement: Measurement) -> dict[str, int]:
    return {
        path: counts.own.macs for path, counts in measurement.by_module.items() if counts.own.macs
    }


def uncounted(measurement: Measurement) -> set[str]:
    return {row.operator for row in measurement.uncounted}


def check_rows(measurement: Measurement) -> None:
    total = Counts.total(row.own for row in measurement.modules)
    assert {name: getattr(measurement, name) for name in total.as_dict()} == total.as_dict()
    assert Counts.total(measurement.by_operator.values()) == total
    root = measurement.by_module[""]
    assert (root.macs, root.flops) == (measurement.macs, measurement.flops)


def check_model(measurement: Measurement, layer: Layer) -> None:
    assert measurement.params == layer.params
    assert measurement.trainable_params == layer.trainable
    assert measurement.model_size == expected_bytes(layer)


def check_forward(measurement: Measurement, tally: Tally, layer: Layer) -> None:
    assert measurement.uncounted == ()
    assert own_macs(measurement) == dict(+tally.forward)
    assert measurement.macs == tally.macs
    assert measurement.flops == tally.flops
    check_rows(measurement)
    check_model(measurement, layer)


def check_training(network: Network, model: nn.Module, x: torch.Tensor) -> None:
    """Forward, and forward and backward, of a network in training."""
    tally, result = walk(network, Mode(training=True))
    model.train()
    forward = measure(model, x)
    assert tuple(forward.output.shape) == result.shape
    assert forward.output.requires_grad == result.needs
    check_forward(forward, tally, network.layer)
    if not result.needs:
        return
    forget_gradients(model, x)
    step = measure(model, x, train=True)
    assert uncounted(step) == set()
    assert step.macs == tally.macs + tally.backward.total()
    assert own_macs(step) == dict(+(tally.forward + tally.backward))
    if tally.derivative is not None:
        # The loss is the sum of the result.
        backward = 2 * tally.backward.total() + tally.derivative
        assert step.flops == tally.flops + result.size - 1 + backward
    check_rows(step)
    check_model(step, network.layer)


def check_network(network: Network) -> None:
    model, x = network.layer.build(), make_input(network)
    model.eval()
    tallies: dict[str, Tally] = {}
    for name, context in CONTEXTS.items():
        tallies[name], result = walk(network, Mode(records=name == "grad"))
        with context():
            measurement = measure(model, x)
        assert tuple(measurement.output.shape) == result.shape
        check_forward(measurement, tallies[name], network.layer)
        if name != "grad" and tallies[name].peak is not None:
            assert measurement.activation_memory == tallies[name].peak
    with training_road(network):
        check_training(network, model, x)


def recurrent_layers(layer: Layer) -> list[Recurrent]:
    if isinstance(layer, Recurrent):
        return [layer]
    return [one for part in getattr(layer, "parts", ()) for one in recurrent_layers(part)]


@contextmanager
def training_road(network: Network) -> Iterator[None]:
    """Without oneDNN where there is an LSTM: its fused backward has tests of its own."""
    enabled = torch._C._get_mkldnn_enabled()
    fused = any(part.is_fused for part in recurrent_layers(network.layer))
    torch._C._set_mkldnn_enabled(enabled and not fused)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def check_fake(network: Network) -> None:
    """The same network with fake tensors, forward and backward."""
    tally, result = walk(network, Mode(records=False))
    training, _ = walk(network, Mode(training=True))
    with FakeTensorMode(), training_road(network):
        model, x = network.layer.build().eval(), make_input(network)
        with torch.no_grad():
            measurement = measure(model, x)
        assert measurement.uncounted == ()
        assert own_macs(measurement) == dict(+tally.forward)
        check_model(measurement, network.layer)
        assert tuple(measurement.output.shape) == result.shape
        if training_needs(network):
            step = measure(model.train(), x, train=True)
            assert uncounted(step) == set()
            assert step.macs == training.macs + training.backward.total()


def training_needs(network: Network) -> bool:
    return walk(network, Mode(training=True))[1].needs


def conv(inputs: int, outputs: int, dims: int, **other: Any) -> Conv:
    """One with odd sizes that differ by dimension."""
    sizes = {"kernel": (3, 2, 1)[:dims], "stride": (2, 1, 3)[:dims], "padding": (1, 2, 0)[:dims]}
    sizes["dilation"] = (1, 2, 1)[:dims]
    return Conv(inputs=inputs, outputs=outputs, **{**sizes, **other})


def pool(kind: str, dims: int, **other: Any) -> Pool:
    sizes = {"kernel": (3, 2, 3)[:dims], "stride": (2, 1, 3)[:dims], "padding": (1, 0, 1)[:dims]}
    if kind == "max":
        sizes["dilation"] = (1, 2, 1)[:dims]
    return Pool(kind=kind, **{**sizes, **other})


def norm(kind: str, channels: int, dims: int = 1, **other: Any) -> Norm:
    return Norm(kind=kind, channels=channels, dims=dims, **other)


def lstm(inputs: int, hidden: int, **other: Any) -> Recurrent:
    return Recurrent(kind="lstm", inputs=inputs, hidden=hidden, **other)


def grouped(road: str, **other: Any) -> Grouped:
    return Grouped(width=10, heads=6, groups=2, head=5, road=road, **other)


RELU = Pointwise(kind="relu")
IMAGE, VOLUME, SERIES, SEQUENCE = (2, 6, 9, 7), (2, 6, 5, 7, 4), (3, 6, 11), (3, 5, 10)
BY_HAND: list[tuple[tuple[int, ...], list[Layer]]] = [
    (SERIES, [conv(6, 4, 1), RELU, conv(4, 8, 1, groups=4, bias=False)]),
    (IMAGE, [conv(6, 4, 2), norm("batch", 4, 2), RELU, conv(4, 6, 2, groups=2)]),
    (IMAGE, [conv(6, 12, 2, groups=6, frozen="weight"), RELU, conv(12, 5, 2, frozen="all")]),
    (VOLUME, [conv(6, 4, 3, groups=2), RELU, conv(4, 3, 3, padding=(1, 2, 1))]),
    (SERIES, [conv(6, 4, 1, transposed=True, extra=(1,)), RELU]),
    (IMAGE, [conv(6, 4, 2, transposed=True, extra=(1, 0), groups=2), norm("batch", 4, 2)]),
    (VOLUME, [conv(6, 3, 3, transposed=True, extra=(0, 1, 2), groups=3, bias=False)]),
    (IMAGE, [pool("max", 2), pool("mean", 2), conv(6, 3, 2)]),
    (SERIES, [conv(6, 3, 1), pool("max", 1, dilation=(2,)), pool("mean", 1)]),
    (VOLUME, [conv(6, 3, 3), pool("max", 3)]),
    (VOLUME, [pool("mean", 3), conv(6, 3, 3)]),
    (
        IMAGE,
        [
            conv(6, 5, 2),
            Pool(kind="adaptive", adaptive=(4, 3)),
            Flatten(),
            Linear(inputs=60, outputs=3),
        ],
    ),
    (IMAGE, [Pool(kind="adaptive", adaptive=(1, 1)), Flatten(), Linear(inputs=6, outputs=4)]),
    (SERIES, [conv(6, 5, 1), Pool(kind="adaptive", adaptive=(4,))]),
    (IMAGE, [Patches(), Linear(inputs=6, outputs=4, bias=False, frozen="all"), norm("layer", 4)]),
    (SEQUENCE, [Linear(inputs=10, outputs=8, frozen="weight"), norm("layer", 8), MeanOverTime()]),
    (SEQUENCE, [lstm(10, 4), lstm(4, 3, layers=2, bidirectional=True)]),
    (SEQUENCE, [lstm(10, 4, proj=3, bidirectional=True), lstm(6, 5, bias=False)]),
    (SEQUENCE, [Recurrent(kind="gru", inputs=10, hidden=4, layers=2, bidirectional=True)]),
    (SEQUENCE, [Recurrent(kind="tanh", inputs=10, hidden=4), Softmax()]),
    (SEQUENCE, [Recurrent(kind="relu", inputs=10, hidden=4, frozen="all", layers=2)]),
    *[
        (SEQUENCE, [Multihead(width=10, heads=heads, need_weights=needs), norm("layer", 10)])
        for heads in (2, 5)
        for needs in (True, False)
    ],
    (SEQUENCE, [Multihead(width=10, heads=2, need_weights=False, frozen="weight")]),
    (SEQUENCE, [Multihead(width=10, heads=2, frozen="all"), Linear(inputs=10, outputs=3)]),
    *[
        (SEQUENCE, [Residual(parts=(Chain(parts=(norm("layer", 10), grouped(road, **other))),))])
        for road, other in (
            ("gqa", {}),
            ("gqa", {"causal": True, "frozen": "q"}),
            ("fused", {"causal": True}),
            ("fused", {"frozen": "kv"}),
            ("written", {}),
            ("written", {"frozen": "qk"}),
            ("written", {"frozen": "v"}),
        )
    ],
    (SEQUENCE, [Linear(inputs=10, outputs=6), *(Pointwise(kind=kind) for kind in Pointwise.COSTS)]),
    (IMAGE, [conv(6, 4, 2), Dropout(), Twice(parts=(Residual(parts=(RELU,)),))]),
    (SEQUENCE, [Twice(parts=(Linear(inputs=10, outputs=10),)), Dropout()]),
    (SEQUENCE, [Twice(parts=(Chain(parts=(grouped("fused"), norm("layer", 10))),))]),
    (IMAGE, [conv(6, 4, 2), norm("group", 4, groups=2), norm("batch", 4, 2, affine=False)]),
]


@pytest.mark.parametrize("asks", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("shape", "layers"), BY_HAND)
def test_every_kind_of_layer_costs_what_it_says(
    shape: tuple[int, ...], layers: list[Layer], asks: bool
) -> None:
    network = Network(layer=Chain(parts=tuple(layers)), shape=shape, asks=asks)
    check_network(network)
    # Step by step, recurrent layers take fake tensors seconds.
    if not asks and not recurrent_layers(network.layer):
        check_fake(network)


def test_oracle_that_forgets_a_bias_does_not_agree() -> None:
    true, false = (
        Network(layer=Chain(parts=(Linear(inputs=3, outputs=5, bias=bias),)), shape=(2, 3))
        for bias in (True, False)
    )
    tally, _ = walk(false, Mode())
    with pytest.raises(AssertionError):
        check_forward(measure(true.layer.build(), make_input(true)), tally, true.layer)


@given(network=networks())
@FEW
def test_random_networks_cost_what_their_layers_say(network: Network) -> None:
    check_network(network)


@given(network=derived_networks())
@FEW
def test_backward_flops_are_those_of_the_chain_rule(network: Network) -> None:
    assume(training_needs(network))
    tally, _ = walk(network, Mode(training=True))
    assert tally.derivative is not None
    check_network(network)


@given(network=networks())
@settings(FEW, max_examples=10)
def test_fake_tensors_cost_what_the_layers_say(network: Network) -> None:
    check_fake(network)


@pytest.mark.slow
@given(network=networks())
@MANY
def test_many_random_networks_cost_what_their_layers_say(network: Network) -> None:
    check_network(network)


@pytest.mark.slow
@given(network=derived_networks())
@MANY
def test_many_backward_passes_cost_what_the_chain_rule_says(network: Network) -> None:
    assume(training_needs(network))
    check_network(network)


@pytest.mark.slow
@given(network=networks())
@settings(MANY, max_examples=300)
def test_many_networks_of_fake_tensors_cost_what_their_layers_say(network: Network) -> None:
    check_fake(network)
