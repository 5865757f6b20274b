"""Well-known image classifiers in plain torch, as their papers and torchvision have them.

Written from the papers' tables, so that the published figures can be checked with nothing
downloaded. ResNet-18, ViT-B/16, MobileNetV2 and EfficientNet-B0 are in `examples/vision`;
ConvNeXt, Swin and the transformers for text come from configurations of `transformers`.
Every function gives a model in evaluation, for images of 224x224 and 1000 classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

CLASSES = 1000


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution that keeps the size at stride 1, its batch norm and an activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    last = [activation()] if activation else []
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *last)


class Residual(nn.Module):
    """A body whose result is added to its input, or to a shortcut of it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None, last: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + (x if self.shortcut is None else self.shortcut(x)))


def head(features: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, CLASSES))


def resnet(
    depths: Sequence[int], *, bottleneck: bool, groups: int = 1, group_width: int = 64
) -> nn.Module:
    """He et al. 2015, with the stride on the 3x3; ResNeXt and wide ones by groups and width."""
    layers: list[nn.Module] = [conv_norm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, depth in enumerate(depths):
        planes = 64 * 2**stage
        outputs = planes * 4 if bottleneck else planes
        for block in range(depth):
            stride = 2 if stage and not block else 1
            if bottleneck:
                width = planes * group_width // 64 * groups
                body = nn.Sequential(
                    conv_norm(inputs, width, 1),
                    conv_norm(width, width, 3, stride, groups=groups),
                    conv_norm(width, outputs, 1, activation=None),
                )
            else:
                body = nn.Sequential(
                    conv_norm(inputs, planes, 3, stride),
                    conv_norm(planes, planes, 3, activation=None),
                )
            changes = stride != 1 or inputs != outputs
            shortcut = conv_norm(inputs, outputs, 1, stride, activation=None) if changes else None
            layers.append(Residual(body, shortcut, nn.ReLU()))
            inputs = outputs
    return nn.Sequential(*layers, head(inputs)).eval()


def vgg(*stages: Sequence[int]) -> nn.Module:
    """Simonyan and Zisserman 2014, table 1."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage in stages:
        for outputs in stage:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, 2))
    classifier = [nn.Flatten(), nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()]
    classifier += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, CLASSES)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), *classifier).eval()


def alexnet() -> nn.Module:
    """Krizhevsky 2014, "One weird trick", section 5."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.AdaptiveAvgPool2d(6), nn.Flatten()),
        *(nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES)),
    ).eval()


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.0, Iandola et al. 2016, table 1."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        *(nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool()),
        *(_Fire(96, 16, 64), _Fire(128, 16, 64), _Fire(128, 32, 128), pool()),
        *(_Fire(256, 32, 128), _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256)),
        *(pool(), _Fire(512, 64, 256), nn.Dropout(), nn.Conv2d(512, CLASSES, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ).eval()


class _Dense(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False)),
            *(nn.BatchNorm2d(4 * growth), nn.ReLU()),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


def densenet(growth: int, depths: Sequence[int]) -> nn.Module:
    """Huang et al. 2016, table 1."""
    width = 2 * growth
    layers: list[nn.Module] = [conv_norm(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for number, depth in enumerate(depths):
        for _ in range(depth):
            layers.append(_Dense(width, growth))
            width += growth
        if number < len(depths) - 1:
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2, 2)]
            width //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), head(width)).eval()


def mobilenet_v1() -> nn.Module:
    """Howard et al. 2017, table 1."""
    layers: list[nn.Module] = [conv_norm(3, 32, 3, 2)]
    inputs = 32
    strided = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for outputs, stride in [*strided, *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        layers.append(conv_norm(inputs, inputs, 3, stride, groups=inputs))
        layers.append(conv_norm(inputs, outputs, 1))
        inputs = outputs
    return nn.Sequential(*layers, head(inputs)).eval()


class _Squeeze(nn.Module):
    """Squeeze and excitation, with convolutions of 1x1."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, squeezed, 1), nn.ReLU()),
            *(nn.Conv2d(squeezed, width, 1), nn.Hardsigmoid()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _round_to_eight(width: float) -> int:
    """The nearest multiple of 8, not more than a tenth below: Howard et al. 2019's `divisor`."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


# Kernel, expanded width, width of the result, squeeze, activation, stride: tables 1 and 2.
LARGE = [
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    *[(5, 120, 40, True, nn.ReLU, 1)] * 2,
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    *[(3, 184, 80, False, nn.Hardswish, 1)] * 2,
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    *[(5, 960, 160, True, nn.Hardswish, 1)] * 2,
]
SMALL = [
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    *[(5, 240, 40, True, nn.Hardswish, 1)] * 2,
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    *[(5, 576, 96, True, nn.Hardswish, 1)] * 2,
]


def mobilenet_v3(
    table: Sequence[tuple[int, int, int, bool, type[nn.Module], int]], last: int
) -> nn.Module:
    """Howard et al. 2019; `last` is the width of the layer before the classifier."""
    layers: list[nn.Module] = [conv_norm(3, 16, 3, 2, activation=nn.Hardswish)]
    inputs = 16
    for kernel, width, outputs, squeezes, activation, stride in table:
        expand = [conv_norm(inputs, width, 1, activation=activation)] if width != inputs else []
        depthwise = conv_norm(width, width, kernel, stride, groups=width, activation=activation)
        squeeze = [_Squeeze(width, _round_to_eight(width / 4))] if squeezes else []
        body = nn.Sequential(
            *expand, depthwise, *squeeze, conv_norm(width, outputs, 1, activation=None)
        )
        keeps = stride == 1 and inputs == outputs
        layers.append(Residual(body, None, nn.Identity()) if keeps else body)
        inputs = outputs
    layers.append(conv_norm(inputs, 6 * inputs, 1, activation=nn.Hardswish))
    return nn.Sequential(
        *layers,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6 * inputs, last), nn.Hardswish()),
        *(nn.Dropout(0.2), nn.Linear(last, CLASSES)),
    ).eval()
