"""The example models against the literature, and against oracles that know only layers.

Published: what torchvision states of its classification weights, `num_params` and
`_ops`, which are billions of MACs with three decimals.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_flopbudget import measure

PUBLISHED_GMAC = {
    "resnet18": 1.814,
    "vit_b_16": 17.564,
    "mobilenet_v2": 0.301,
    "efficientnet_b0": 0.386,
}

DOCS = Path(__file__).parents[2] / "docs" / "models.md"

PUBLISHED_PARAMS = {
    "resnet18": 11_689_512,
    "vit_b_16": 86_567_656,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
}


def layer_macs(seen: Any) -> int:
    """MACs of one layer: elements of its result x what each of them is a sum over."""
    layer, results = seen.layer, math.prod(seen.returned)
    if isinstance(layer, torch.nn.Conv2d):
        return results * (layer.in_channels // layer.groups) * math.prod(layer.kernel_size)
    if isinstance(layer, torch.nn.Linear):
        return results * layer.in_features
    if seen.kind == "ViTAttention":
        batch, tokens, width = seen.given
        return 2 * batch * tokens * tokens * width  # Q K^T, and the weights times V
    return 0


def norm_arithmetic(seen: Any) -> int:
    """FLOPs of a norm: four or eight for each element, and two for each deviation."""
    layer, results = seen.layer, math.prod(seen.returned)
    if isinstance(layer, torch.nn.BatchNorm2d):
        # subtract, multiply, scale and shift; for each channel add epsilon, take a root
        return 4 * results + 2 * layer.num_features
    # mean 1, variance 3, and four as above; for each row add epsilon, take a root
    return 8 * results + 2 * results // layer.normalized_shape[0]


def pool_arithmetic(seen: Any) -> int:
    """FLOPs of a maximum over windows, or of a mean over everything."""
    layer, results = seen.layer, math.prod(seen.returned)
    if isinstance(layer, torch.nn.MaxPool2d):
        # 3x3 at stride 2, padded by 1: of each row of windows the first hangs one over
        assert (layer.kernel_size, layer.stride, layer.padding) == (3, 2, 1)
        return math.prod(seen.given[:2]) * (3 * seen.returned[-1] - 1) ** 2 - results
    return math.prod(seen.given)  # n - 1 additions and a division


def layer_arithmetic(seen: Any) -> int:
    """FLOPs of one layer beside its MACs, what its children do left out."""
    layer, results = seen.layer, math.prod(seen.returned)
    if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
        return results if layer.bias is not None else 0
    if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
        return norm_arithmetic(seen)
    if isinstance(layer, torch.nn.MaxPool2d | torch.nn.AvgPool2d | torch.nn.AdaptiveAvgPool2d):
        return pool_arithmetic(seen)
    if seen.kind == "ViTAttention":
        batch, tokens, _ = seen.given
        rows = batch * layer.config.num_attention_heads * tokens
        # scale 1; softmax: maximum n - 1, subtract n, exp n, sum n - 1, divide n
        return rows * tokens + rows * (5 * tokens - 2)
    per_result = {
        "ReLU": 1,
        "ReLU6": 2,  # two comparisons
        "Sigmoid": 1,
        "SiLU": 2,  # x * sigmoid(x)
        "GELUActivation": 5,  # x / 2 * (1 + erf(x / sqrt(2)))
        "ResNetBasicLayer": 1,  # the residual sum
        "MobileNetV2InvertedResidual": int(getattr(layer, "use_residual", False)),
        "EfficientNetFinalBlockLayer": int(getattr(layer, "apply_dropout", False)),
        "EfficientNetSqueezeExciteLayer": 1,  # the product with the gates
        "ViTEmbeddings": 1,  # plus the positions
        "ViTLayer": 2,  # two residual sums
    }
    return per_result.get(seen.kind, 0) * results


@pytest.fixture(scope="module", params=PUBLISHED_GMAC)
def case(request: pytest.FixtureRequest, models: Any, see_layers: Any) -> Any:
    """Name, model, measurement and layers seen, once for each model."""
    model = getattr(models, request.param)()
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        measurement = measure(model, image)
    return request.param, model, measurement, see_layers(model, image)


def test_macs_are_the_published_figure(case: Any) -> None:
    name, _, measurement, _ = case
    assert measurement.macs / 1e9 == pytest.approx(PUBLISHED_GMAC[name], abs=0.0005)


def test_macs_of_every_layer_are_the_oracles_to_the_last_digit(case: Any) -> None:
    _, _, measurement, layers = case
    counted = {path: row.own.macs for path, row in measurement.by_module.items() if row.own.macs}
    assert counted == {seen.path: macs for seen in layers if (macs := layer_macs(seen))}
    assert measurement.macs == sum(map(layer_macs, layers))


def test_flops_are_the_oracles_to_the_last_digit(case: Any) -> None:
    _, _, measurement, layers = case
    assert measurement.flops == sum(2 * layer_macs(s) + layer_arithmetic(s) for s in layers)


def test_parameters_are_the_published_number(case: Any) -> None:
    name, _, measurement, _ = case
    assert measurement.params == PUBLISHED_PARAMS[name]


def test_model_size_is_every_parameter_and_buffer_once(case: Any) -> None:
    name, model, measurement, _ = case
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert measurement.model_size == 4 * PUBLISHED_PARAMS[name] + buffers


def test_every_operator_is_counted(case: Any) -> None:
    _, _, measurement, _ = case
    assert measurement.uncounted == ()


def test_peak_memory_is_what_the_example_works_out_beside_its_budget(case: Any) -> None:
    name, model, measurement, _ = case
    # The counters of batches are whole numbers, and are not touched in evaluation.
    touched = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    image = 3 * 224 * 224
    activations = {
        "resnet18": 2 * 64 * 112 * 112,
        "vit_b_16": 2 * 197 * 3072 + 4 * 197 * 768,
        "mobilenet_v2": (16 + 2 * 96) * 112 * 112,
        "efficientnet_b0": (32 + 16 + 96) * 112 * 112 + 96 * 113 * 113 + 96 * 56 * 56,
    }[name]
    assert measurement.activation_memory == 4 * activations
    weights = sum(tensor.numel() for tensor in touched)
    assert measurement.peak_memory == 4 * (weights + image + activations)


def test_docs_print_the_counts_of_this_model(case: Any) -> None:
    name, _, measurement, _ = case
    title = {
        "resnet18": "ResNet-18",
        "vit_b_16": "ViT-B/16",
        "mobilenet_v2": "MobileNetV2",
        "efficientnet_b0": "EfficientNet-B0",
    }[name]
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    macs_row, flops_row, *_ = [
        [cell.strip() for cell in line.split("|")[2:-1]]
        for line in lines
        if line.startswith(f"| {title} |")
    ]
    macs, flops = measurement.macs, measurement.flops
    published = f"{PUBLISHED_GMAC[name]:.3f} G"
    assert [macs_row[1], macs_row[2], macs_row[5]] == [
        published,
        f"{macs:,}",
        f"{PUBLISHED_PARAMS[name]:,}",
    ]
    share = (flops - 2 * macs) / (2 * macs)
    assert flops_row == [f"{2 * macs:,}", f"{flops:,}", f"{100 * share:.1f} %"]


def test_oracle_finds_the_macs_of_vit_b_16_worked_out_by_hand(models: Any, see_layers: Any) -> None:
    tokens, width = 14 * 14 + 1, 768
    projections = tokens * width * (4 * width + 2 * 4 * width)  # q, k, v, o and an MLP of 4x
    attention = 2 * tokens * tokens * width
    patches = 14 * 14 * width * (3 * 16 * 16)
    head = width * 1000
    expected = 12 * (projections + attention) + patches + head
    with torch.device("meta"):
        layers = see_layers(models.vit_b_16(), torch.rand(1, 3, 224, 224))
    assert sum(map(layer_macs, layers)) == expected == 17_563_828_224


def test_oracle_finds_the_macs_of_resnet18_worked_out_by_hand(models: Any, see_layers: Any) -> None:
    expected = 112 * 112 * 64 * (3 * 7 * 7) + 4 * 56 * 56 * 64 * (64 * 9) + 512 * 1000
    for side, width in ((28, 128), (14, 256), (7, 512)):
        halved = side * side * width * (width // 2 * 9)
        shortcut = side * side * width * (width // 2)
        expected += halved + shortcut + 3 * side * side * width * (width * 9)
    with torch.device("meta"):
        layers = see_layers(models.resnet18(), torch.rand(1, 3, 224, 224))
    assert sum(map(layer_macs, layers)) == expected == 1_814_073_344


# What docs/models.md says of other configurations: the example's model, the change, and
# the MACs and parameters that it adds, from the shapes of the layers concerned.
CHANGES = [
    ("resnet18", {"num_labels": 2}, -998 * 512, -998 * 513),
    ("vit_b_16", {"num_labels": 2}, -998 * 768, -998 * 769),
    ("efficientnet_b0", {"num_labels": 2}, -998 * 1280, -998 * 1281),
    ("mobilenet_v2", {"num_labels": 1001}, 1280, 1281),
    ("mobilenet_v2", {"tf_padding": True}, 0, 0),
    # a convolution of 32 to 32 channels and its norm
    ("mobilenet_v2", {"first_layer_is_expansion": False}, 112 * 112 * 32 * 32, 32 * 32 + 2 * 32),
    ("vit_b_16", {"qkv_bias": False}, 0, -12 * 3 * 768),
    ("vit_b_16", {"attn_implementation": "eager"}, 0, 0),
]


@pytest.mark.parametrize(("name", "change", "macs", "params"), CHANGES)
def test_a_change_of_configuration_costs_what_the_docs_say(
    models: Any, name: str, change: dict[str, Any], macs: int, params: int
) -> None:
    image = torch.rand(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        model = getattr(models, name)()
        config = type(model.config)(**{**model.config.to_dict(), **change})
        changed = type(model)(config).eval()
    before, after = measure(model, image), measure(changed, image)
    assert (after.macs - before.macs, after.params - before.params) == (macs, params)


def test_a_batch_multiplies_the_macs(models: Any) -> None:
    with torch.device("meta"):
        model = models.mobilenet_v2()
    batch = torch.rand(5, 3, 224, 224, device="meta")
    assert measure(model, batch).macs == 5 * 300_774_272
