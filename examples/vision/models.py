"""The four classifiers as their papers describe them, with random weights.

Nothing is downloaded: a count depends on shapes alone, not on what was learnt.
docs/models.md says what each setting here changes, and by how much.
"""

from transformers import (
    EfficientNetConfig,
    EfficientNetForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

IMAGENET_CLASSES = 1000


def resnet18():
    """ResNet-18 (He et al. 2015). The defaults of the configuration are ResNet-50."""
    config = ResNetConfig(
        layer_type="basic",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        num_labels=IMAGENET_CLASSES,
    )
    return ResNetForImageClassification(config).eval()


def vit_b_16():
    """ViT-B/16 (Dosovitskiy et al. 2020): the defaults, with a head for ImageNet."""
    config = ViTConfig(num_labels=IMAGENET_CLASSES)
    return ViTForImageClassification(config).eval()


def mobilenet_v2():
    """MobileNetV2 (Sandler et al. 2018) at width 1.0, padded as in PyTorch."""
    config = MobileNetV2Config(tf_padding=False, num_labels=IMAGENET_CLASSES)
    return MobileNetV2ForImageClassification(config).eval()


def efficientnet_b0():
    """EfficientNet-B0 (Tan and Le 2019). The defaults of the configuration are B7."""
    config = EfficientNetConfig(
        image_size=224,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        num_labels=IMAGENET_CLASSES,
    )
    return EfficientNetForImageClassification(config).eval()
