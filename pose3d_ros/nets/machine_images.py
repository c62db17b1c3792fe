"""The 3D Human Pose Machine on images: the 2D pose sub-network, and the transformer module that begins with it.

Wang, Lin, Jiang, Qian, Wei: 3D Human Pose Machines with Self-supervised Learning, table 1 and sections 3.1, 3.2, 3.4.
Crops of 368 px become 128 features of 46 x 46 cells, from which a fully connected layer tells joints in the image
(equation 5), and two convolutions with pooling and a fully connected layer make what the LSTM is shown. From there on
it is nets/machine.py. Size and channels are arguments, so that a small one can be trained on a processor core.

Images go in as they are, (N, 3, S, S) RGB of 0..255: the normalisation is the network's.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pose3d_ros.nets.machine import DROPOUT, WIDTH, Projector, Steps, Transformer, xavier

SIZE = 368        # px, as published
STRIDE = 8        # px per cell: three halvings
# Table 1: channels of the convolutions (3 x 3, stride 1), in groups with a halving (max pooling 2 x 2) after each but
# the last.
CHANNELS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 256, 256, 256, 256, 128))
ADAPTED = 128     # kernels of each convolution of the transformer module


class Found(NamedTuple):
    """joints2d (N, T, J, 2) px of the crop; the other results are those of Machine.clip."""

    joints2d: Tensor
    steps: Steps


class PoseNet2D(nn.Module):
    """Psi_R: crops (M, 3, S, S) to features (M, 128 / narrow, S / 8, S / 8) and joints in the image.

    narrow: what all channels of table 1 are divided by.
    """

    def __init__(self, joints: int, size: int = SIZE, narrow: int = 1) -> None:
        super().__init__()
        if size % STRIDE or size < STRIDE or narrow < 1 or min(min(group) for group in CHANNELS) % narrow:
            raise ValueError(f'size {size}, narrow {narrow}: expected multiples of {STRIDE} px and a divisor of 64')
        self.joints, self.size, self.channels = joints, size, CHANNELS[-1][-1] // narrow
        layers: list[nn.Module] = []
        before = 3
        for number, group in enumerate(CHANNELS):
            layers += [nn.MaxPool2d(2)] if number else []
            for channels in group:
                layers += [nn.Conv2d(before, channels // narrow, 3, padding=1), nn.ReLU()]
                before = channels // narrow
        self.layers = nn.Sequential(*layers)
        self.coordinates = nn.Linear(self.channels * (size // STRIDE) ** 2, 2 * joints)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features, and joints (M, J, 2) px of the crop, integers being pixel centres."""
        features = self.layers(images / 127.5 - 1.0)
        # Max-min normalisation (section 4.1): 0..1 is the crop.
        share = self.coordinates(features.flatten(1)).reshape(-1, self.joints, 2)
        return features, share * self.size - 0.5


class Adaptation(nn.Module):
    """The first half of the transformer module (section 3.2): features (M, C, h, h) to what the LSTM is shown."""

    def __init__(self, channels: int, cells: int, width: int, kernels: int = ADAPTED) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (channels, kernels):
            # Odd numbers of cells are halved upwards, so that small maps have something left.
            layers += [nn.Conv2d(before, kernels, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            for _ in range(2):
                cells = (cells + 1) // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(kernels * cells ** 2, width), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class ImageMachine(nn.Module):
    """Crops of a person as they come to joints in the image and poses in statures, as by a camera turned to the person.

    joints: K, of the pose and in the image. state (N, 2, 2, width): as in Machine; the frame rate is not shown (the
    paper's is fixed).
    """

    def __init__(self, joints: int = 17, size: int = SIZE, narrow: int = 1, width: int = WIDTH,
                 dropout: float = DROPOUT, recurrent: bool = True, skip: bool = False) -> None:
        super().__init__()
        self.posenet = PoseNet2D(joints, size, narrow)
        self.adaptation = Adaptation(self.posenet.channels, size // STRIDE, width, ADAPTED // narrow)
        self.transformer = Transformer(joints, width, recurrent)
        self.projector = Projector(joints, joints, width, dropout, skip)
        xavier(self)

    def start(self, people: int) -> Tensor:
        """Return the state (N, 2, 2, width) of so many people of whom nothing is remembered."""
        return self.transformer.memory.start(people)

    def forward(self, images: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Psi_T's pose (N, K, 3), joints (N, K, 2) px and the state of one frame (N, 3, S, S)."""
        features, joints2d = self.posenet(images)
        values, state = self.transformer.step(self.adaptation(features), state)
        return self.projector.posed(values), joints2d, state

    def clip(self, images: Tensor, state: Tensor | None = None) -> Found:
        """Return everything for clips (N, T, 3, S, S), oldest frame first."""
        shape = images.shape[:2]
        features, joints2d = self.posenet(images.flatten(0, 1))
        values, _, _ = self.transformer(self.adaptation(features).reshape(*shape, -1), state)
        pose = self.projector.posed(values).reshape(*shape, self.projector.joints, 3)
        regressed = self.projector.regress(pose)
        return Found(joints2d.reshape(*shape, -1, 2),
                     Steps(pose, regressed, self.projector.project(regressed), None))

    def folded(self) -> ImageMachine:
        """Return a copy for export."""
        network = copy.deepcopy(self).eval()
        network.projector = network.projector.folded()
        return network


def as_input(images: Tensor) -> Tensor:
    """Return what the network takes of images (..., S, S, 3) uint8."""
    return torch.movedim(images, -1, -3).float()
