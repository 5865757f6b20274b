"""Forward passes, held to the budgets in pyproject.toml."""

import models
import pytest
import torch


@pytest.mark.flop_budget("resnet18")
def test_resnet18(flopbudget, image):
    model = models.resnet18()
    with torch.inference_mode():
        flopbudget(model, image)


@pytest.mark.flop_budget("vit-b-16")
def test_vit_b_16(flopbudget, image):
    model = models.vit_b_16()
    with torch.inference_mode():
        flopbudget(model, image)


@pytest.mark.flop_budget("efficientnet-b0")
def test_efficientnet_b0(flopbudget, image):
    model = models.efficientnet_b0()
    with torch.inference_mode():
        logits = flopbudget(model, image).logits
    assert logits.shape == (1, models.IMAGENET_CLASSES)


@pytest.fixture(scope="module")
def mobilenet_v2():
    return models.mobilenet_v2()


# Without the fixture `flopbudget`, the whole test is measured. What its own fixtures
# do is not, so the model is built outside of the budget.
@pytest.mark.flop_budget("mobilenet-v2")
def test_mobilenet_v2(mobilenet_v2, image):
    with torch.inference_mode():
        logits = mobilenet_v2(image).logits
    assert logits.shape == (1, models.IMAGENET_CLASSES)


# A budget may also be written at the test.
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(160, marks=pytest.mark.flop_budget(macs="0.155 GMAC")),
        pytest.param(192, marks=pytest.mark.flop_budget(macs="0.222 GMAC")),
    ],
)
def test_mobilenet_v2_on_smaller_images(flopbudget, mobilenet_v2, size):
    with torch.inference_mode():
        flopbudget(mobilenet_v2, torch.rand(1, 3, size, size))


# A part of a test is a region with a name, and a budget of its own.
@pytest.mark.flop_budget("efficientnet-head", region="head")
def test_efficientnet_head(flopbudget, image):
    model = models.efficientnet_b0()
    with torch.inference_mode():
        features = model.efficientnet(image).pooler_output
        with flopbudget.region("head"):
            model.classifier(features)
