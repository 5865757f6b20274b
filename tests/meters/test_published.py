"""Well-known models against published figures and closed forms.

The figures of torchvision are what the documentation of its classification weights states:
the column GFLOPS, which are billions of MACs with three decimals, and `num_params`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.initialization import no_init_weights

from pytest_flopbudget import Measurement, measure

from . import architectures


def _load_examples() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "vision" / "models.py"
    spec = importlib.util.spec_from_file_location("examples_vision_models_published", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


examples = _load_examples()


def _convnext_tiny() -> nn.Module:
    config = transformers.ConvNextConfig(num_labels=1000)
    return transformers.ConvNextForImageClassification(config).eval()


def _swin_tiny() -> nn.Module:
    config = transformers.SwinConfig(num_labels=1000)
    return transformers.SwinForImageClassification(config).eval()


def _transformers_resnet_50() -> nn.Module:
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(num_labels=1000)
    ).eval()


resnet = architectures.resnet
VGG_16 = ([64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3)
VGG_11 = ([64], [128], [256] * 2, [512] * 2, [512] * 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A model, and what is stated of it."""

    build: Callable[[], nn.Module]
    gmac: float
    params: int
    source: str = "torchvision"
    is_real: bool = False
    """For a model that reads values when it is built, and so cannot be fake."""


MODELS = {
    "resnet18": Published(build=examples.resnet18, gmac=1.814, params=11_689_512),
    "resnet34": Published(
        build=partial(resnet, (3, 4, 6, 3), bottleneck=False), gmac=3.664, params=21_797_672
    ),
    "resnet50": Published(
        build=partial(resnet, (3, 4, 6, 3), bottleneck=True), gmac=4.089, params=25_557_032
    ),
    "resnet50-transformers": Published(
        build=_transformers_resnet_50, gmac=4.089, params=25_557_032
    ),
    "resnet101": Published(
        build=partial(resnet, (3, 4, 23, 3), bottleneck=True), gmac=7.801, params=44_549_160
    ),
    "resnet152": Published(
        build=partial(resnet, (3, 8, 36, 3), bottleneck=True), gmac=11.514, params=60_192_808
    ),
    "resnext50_32x4d": Published(
        build=partial(resnet, (3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
        gmac=4.23,
        params=25_028_904,
    ),
    "wide_resnet50_2": Published(
        build=partial(resnet, (3, 4, 6, 3), bottleneck=True, group_width=128),
        gmac=11.398,
        params=68_883_240,
    ),
    "vgg11": Published(build=partial(architectures.vgg, *VGG_11), gmac=7.609, params=132_863_336),
    "vgg16": Published(build=partial(architectures.vgg, *VGG_16), gmac=15.47, params=138_357_544),
    "alexnet": Published(build=architectures.alexnet, gmac=0.714, params=61_100_840),
    "squeezenet1_0": Published(build=architectures.squeezenet, gmac=0.819, params=1_248_424),
    "densenet121": Published(
        build=partial(architectures.densenet, 32, (6, 12, 24, 16)), gmac=2.834, params=7_978_856
    ),
    "mobilenet_v1": Published(
        build=architectures.mobilenet_v1,
        gmac=0.569,
        params=4_231_976,
        source="Howard et al. 2017, table 8: 569 million multiply-adds, 4.2 million parameters",
    ),
    "mobilenet_v2": Published(build=examples.mobilenet_v2, gmac=0.301, params=3_504_872),
    "mobilenet_v3_large": Published(
        build=partial(architectures.mobilenet_v3, architectures.LARGE, 1280),
        gmac=0.217,
        params=5_483_032,
    ),
    "mobilenet_v3_small": Published(
        build=partial(architectures.mobilenet_v3, architectures.SMALL, 1024),
        gmac=0.057,
        params=2_542_856,
    ),
    "efficientnet_b0": Published(build=examples.efficientnet_b0, gmac=0.386, params=5_288_548),
    "convnext_tiny": Published(build=_convnext_tiny, gmac=4.456, params=28_589_128, is_real=True),
    "swin_t": Published(build=_swin_tiny, gmac=4.491, params=28_288_354),
    "vit_b_16": Published(build=examples.vit_b_16, gmac=17.564, params=86_567_656),
}
QUICK = ("resnet18", "resnet50", "alexnet", "squeezenet1_0", "mobilenet_v1", "mobilenet_v3_small")


def slow_but(quick: tuple[str, ...], names: Any) -> list[Any]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def measure_fake(
    build: Callable[[], nn.Module], batch: int = 1, *, is_real: bool = False, **other: Any
) -> Measurement:
    """With tensors that have shapes and no data, if the model takes them."""
    # Weights drawn again until they are in a range cannot be drawn without data.
    with nullcontext() if is_real else FakeTensorMode(), no_init_weights():
        return measure(build(), torch.rand(batch, 3, 224, 224), **other)


def rows(measurement: Measurement) -> dict[str, dict[str, tuple[int, Any]]]:
    """Calls and counts by module and operator."""
    return {
        module.path: {row.operator: (row.calls, row.counts) for row in module.operators}
        for module in measurement.modules
    }


@pytest.mark.parametrize("name", slow_but(QUICK, MODELS))
def test_macs_and_parameters_are_the_published_figures(name: str) -> None:
    published = MODELS[name]
    with torch.no_grad():
        m = measure_fake(published.build, is_real=published.is_real)
    assert m.macs / 1e9 == pytest.approx(published.gmac, abs=0.0005)
    assert m.params == published.params
    assert m.uncounted == ()


@pytest.mark.parametrize("name", slow_but((), ("resnet18", "vit_b_16", "mobilenet_v3_small")))
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_fake_tensors_count_the_same_as_real_ones(name: str, context: Any) -> None:
    build = MODELS[name].build
    with context():
        real = measure(build(), torch.rand(1, 3, 224, 224))
        fake = measure_fake(build)
    assert real.values == fake.values
    assert rows(real) == rows(fake)


@pytest.mark.parametrize("name", slow_but(("mobilenet_v3_small",), MODELS))
def test_macs_grow_with_the_batch_and_parameters_do_not(name: str) -> None:
    build, is_real = MODELS[name].build, MODELS[name].is_real
    with torch.no_grad():
        one, three = (measure_fake(build, batch, is_real=is_real) for batch in (1, 3))
    assert three.macs == 3 * one.macs
    assert (three.params, three.model_size) == (one.params, one.model_size)
    # What does not depend on the images, such as deviations, is done once.
    assert 2 * one.flops < three.flops <= 3 * one.flops


# Forward and backward of one image that needs no gradient, in FLOPs of products alone:
# three forwards, less the gradient of the first convolution's input.
TRAINING = {
    "resnet50": (24_299_077_632, 112 * 112 * 64 * (3 * 7 * 7)),
    "mobilenet_v2": (1_782_969_600, 112 * 112 * 32 * (3 * 3 * 3)),
    "efficientnet_b0": (2_293_212_480, 112 * 112 * 32 * (3 * 3 * 3)),
    "mobilenet_v3_large": (1_288_700_544, 112 * 112 * 16 * (3 * 3 * 3)),
}


@pytest.mark.parametrize("name", slow_but(("resnet50",), TRAINING))
def test_training_costs_three_forwards_less_the_gradient_of_the_image(name: str) -> None:
    products, first = TRAINING[name]
    build = MODELS[name].build
    with torch.no_grad():
        forward = measure_fake(build)
    # Where a batch norm sees one value for each channel, training takes two images.
    images = 1 if name in {"resnet50", "mobilenet_v2"} else 2
    step = measure_fake(lambda: build().train(), batch=images, train=True)
    assert step.uncounted == ()
    assert 2 * step.macs == images * products
    assert step.macs == images * (3 * forward.macs - first)


LENGTH = 128


def _gpt2(attention: str) -> nn.Module:
    config = transformers.GPT2Config(attn_implementation=attention, use_cache=False)
    return transformers.GPT2Model(config).eval()


def _bert(attention: str) -> nn.Module:
    return transformers.BertModel(transformers.BertConfig(attn_implementation=attention)).eval()


def _llama(attention: str) -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=512,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=1376,
        vocab_size=1000,
        attn_implementation=attention,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config).eval()


def _attention(length: int, width: int) -> int:
    """Q K^T, and the weights times V, over the whole matrix of scores."""
    return 2 * length * length * width


# Projections of queries, keys, values and results, the two layers of an MLP of four times
# the width, and attention; BERT's pooler sees one token.
_BLOCKS = 12 * (LENGTH * 768 * (3 * 768 + 768 + 8 * 768) + _attention(LENGTH, 768))
TEXT = {
    "gpt2": (_gpt2, _BLOCKS, 11_173_625_856),
    "bert": (_bert, _BLOCKS + 768**2, 11_174_215_680),
    "llama": (
        _llama,
        # two key and value heads of 64, a gated MLP, and a head of 1000 words for each token
        2 * (LENGTH * 512 * (2 * 512 + 2 * 128 + 3 * 1376) + _attention(LENGTH, 512))
        + LENGTH * 512 * 1000,
        807_927_808,
    ),
}
TEXT_PARAMS = {
    # words, positions, twelve blocks with their norms, and the last norm
    "gpt2": 50_257 * 768 + 1024 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768,
    "bert": (30_522 + 512 + 2) * 768 + 2 * 768 + 12 * (12 * 768**2 + 13 * 768) + 768 * 769,
    "llama": 2 * 1000 * 512 + 2 * (512 * (2 * 512 + 2 * 128) + 3 * 512 * 1376 + 2 * 512) + 512,
}


def measure_text(name: str, attention: str, batch: int = 1, **other: Any) -> Measurement:
    model = TEXT[name][0](attention)
    tokens = torch.randint(1000, (batch, LENGTH))
    # No mask: one that is all ones is left out of the sums where its values can be read.
    return measure(lambda: model(input_ids=tokens)[0], **other)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", TEXT)
def test_transformers_for_text_cost_their_closed_form(name: str, attention: str) -> None:
    _, expected, stated = TEXT[name]
    assert expected == stated
    with FakeTensorMode(), torch.no_grad():
        m = measure_text(name, attention)
        batch = measure_text(name, attention, batch=2)
    assert m.macs == expected
    assert batch.macs == 2 * expected
    assert m.uncounted == ()


@pytest.mark.parametrize("name", TEXT)
def test_parameters_of_transformers_for_text_are_their_closed_form(name: str) -> None:
    with FakeTensorMode(), torch.no_grad():
        model = TEXT[name][0]("sdpa")
        tokens = torch.randint(1000, (1, 8))
        m = measure(model, tokens)
    assert m.params == m.trainable_params == TEXT_PARAMS[name]


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", TEXT)
def test_fake_tensors_of_text_count_the_same_as_real_ones(name: str, attention: str) -> None:
    with torch.no_grad():
        real = measure_text(name, attention)
        with FakeTensorMode():
            fake = measure_text(name, attention)
    assert real.macs == fake.macs == TEXT[name][1]
    # Where it cannot read the positions, transformers adds a causal mask to the scores in
    # place of asking fused attention for one.
    masked = {"gpt2": 12 * 12, "llama": 2 * 8, "bert": 0}[name] * LENGTH * LENGTH
    assert fake.flops - real.flops == (masked if attention == "sdpa" else 0)


@pytest.mark.slow
@pytest.mark.parametrize(("attention", "again"), [("eager", 0), ("sdpa", 1)])
@pytest.mark.parametrize("name", TEXT)
def test_training_of_text_costs_three_forwards_and_fused_scores_again(
    name: str, attention: str, again: int
) -> None:
    """Everything below the embeddings needs a gradient; fused backward has a fifth product."""
    _, forward, _ = TEXT[name]
    layers, width = (2, 512) if name == "llama" else (12, 768)
    with FakeTensorMode():
        m = measure_text(name, attention, train=True)
    scores_again = layers * LENGTH * LENGTH * width * again
    pooler = 2 * 768**2 if name == "bert" else 0  # not in the loss: no backward
    assert m.macs == 3 * forward - pooler + scores_again
    assert m.uncounted == ()
