"""The two image networks of the paper that come from no library: ResNet and DenseNet-BC for pictures of 32 × 32.

torchvision's DenseNet has a first layer for pictures of 224 × 224, and no ResNet-56.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut without parameters ("option A"): (B, C, S, S) → (B, D, S/stride, S/stride)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, after - before
        first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.body = nn.Sequential(first, nn.BatchNorm2d(after), nn.ReLU(), second, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))  # channels of zeros
        return F.relu(shortcut + self.body(x))


def resnet(depth: int, classes: int, channels: int = 3) -> nn.Sequential:
    """The ResNet of He et al. (2016, section 4.2) with 16, 32 and 64 features.

    Args:
        depth: 6n + 2: three groups of n blocks, between a first convolution and the head.
        classes: number of classes.
        channels: of a picture, 3 for colours.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for after in (16, 32, 64):
        for place in range((depth - 2) // 6):
            layers.append(ResidualBlock(width, after, stride=2 if place == 0 and after > 16 else 1))
            width = after
    return finished(layers, width, classes)


class DenseLayer(nn.Module):
    """A layer with a bottleneck whose output goes beside its input: (B, C, S, S) → (B, C + growth, S, S)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        narrow = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4 * growth, 1, bias=False)]
        wide = [nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)]
        self.body = nn.Sequential(*narrow, *wide)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


def densenet(depth: int, growth: int, classes: int) -> nn.Sequential:
    """The DenseNet-BC of Huang et al. (2017): three groups of (depth − 4)/6 layers; half the features go on."""
    width = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for group in range(3):
        if group:
            halved = nn.Conv2d(width, width // 2, 1, bias=False)
            layers += [nn.BatchNorm2d(width), nn.ReLU(), halved, nn.AvgPool2d(2)]
            width //= 2
        for _ in range((depth - 4) // 6):
            layers.append(DenseLayer(width, growth))
            width += growth
    return finished([*layers, nn.BatchNorm2d(width), nn.ReLU()], width, classes)


def finished(layers: Sequence[nn.Module], width: int, classes: int) -> nn.Sequential:
    """The network with a mean over the picture and a learned head; its convolutions start as in He et al. (2015)."""
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
