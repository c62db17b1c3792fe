"""Small networks of the forms that users bring, which really compute: they find people drawn in known colours.

A drawn person is a rectangle whose red and green tell where in it one is (0 at the left, top; 255 at the right, bottom;
blue 128), with a disc for each joint, in a colour of its own with blue 0 or 255. The network of joints weighs pixels by
how near their colour is to each joint's; the network of boxes reads the rectangle off the colours and their slope, at
every cell of a grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pose3d_ros.camera import Camera
from pose3d_ros.records import Frame
from pose3d_ros.skeleton import COCO17

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
COLOURS = np.array([c for c in product((0, 128, 255), (0, 128, 255), (0, 255)) if c != (0, 0, 0)], float)  # 17, RGB
# A standing body of height 1, the mid-hip at the origin, x to the image's right and y down.
BODY = {'nose': (0, -0.42), 'left_eye': (0.03, -0.45), 'left_ear': (0.07, -0.42), 'left_shoulder': (0.11, -0.3),
        'left_elbow': (0.16, -0.14), 'left_wrist': (0.18, 0.02), 'left_hip': (0.06, 0.0), 'left_knee': (0.07, 0.24),
        'left_ankle': (0.08, 0.46)}
BODY.update({name.replace('left', 'right'): (-x, y) for name, (x, y) in BODY.items() if name.startswith('left')})
TEMPLATE = np.array([BODY[name] for name in COCO17.joints])
BOX = np.array([-0.24, -0.52, 0.24, 0.53])


@dataclass(frozen=True)
class Person:
    """A drawn person: the mid-hip in px, the height in px; without: joints that are not drawn."""

    x: float
    y: float
    height: float = 300.0
    without: tuple[str, ...] = ()

    @property
    def joints(self) -> np.ndarray:
        return np.array([self.x, self.y]) + self.height * TEMPLATE

    @property
    def box(self) -> np.ndarray:
        return np.tile([self.x, self.y], 2) + self.height * BOX


def paint(people: Sequence[Person], width: int = 640, height: int = 480) -> np.ndarray:
    """Return an image (H, W, 3) BGR of the people."""
    image = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width].astype(float)
    for person in people:
        x0, y0, x1, y1 = person.box
        inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        ramp = np.stack([np.full(x.shape, 128.0), 255 * (y - y0) / (y1 - y0), 255 * (x - x0) / (x1 - x0)], axis=-1)
        image[inside] = ramp.round()[inside]
        for name, point, (r, g, b) in zip(COCO17.joints, person.joints, COLOURS):
            if name not in person.without:
                cv2.circle(image, tuple(int(round(16 * v)) for v in point), int(16 * 0.012 * person.height),
                           (int(b), int(g), int(r)), -1, cv2.LINE_AA, 4)
    return image


def frame(people: Sequence[Person], width: int = 640, height: int = 480, stamp_ns: int = 0) -> Frame:
    return Frame(paint(people, width, height), stamp_ns,
                 Camera(width, height, 600.0, 600.0, width / 2.0, height / 2.0))


class Joints(nn.Module):
    """Joints of a crop (N, 3, h, w), (value - mean) / std of RGB in 0..255; heat maps of stride 4, or SimCC rows."""

    def __init__(self, size: tuple[int, int], head: str, joints: int = 17, stride: int = 4, split: float = 2.0) -> None:
        super().__init__()
        self.head, self.joints = head, joints
        colours = torch.tensor(COLOURS[:joints], dtype=torch.float32)
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        self.scale, self.shift = nn.Parameter(std[:, None, None]), nn.Parameter(mean[:, None, None])
        self.cross = nn.Conv2d(3, joints, 1)
        self.cross.weight.data = -2.0 * colours[:, :, None, None]
        self.cross.bias.data = (colours ** 2).sum(1)
        width, height = size
        if head == 'heatmap':
            line = torch.exp(-torch.arange(-20.0, 21.0) ** 2 / (2.0 * 6.0 ** 2)).expand(joints, 1, 41)
            across = nn.Conv2d(joints, joints, (1, 41), (1, stride), (0, 20), groups=joints, bias=False)
            down = nn.Conv2d(joints, joints, (41, 1), (stride, 1), (20, 0), groups=joints, bias=False)
            across.weight.data, down.weight.data = line[:, :, None].clone(), line[..., None].clone()
            self.blur = nn.Sequential(across, down)
        else:
            self.rows = nn.ParameterList([self._row(length, split) for length in (width, height)])

    @staticmethod
    def _row(length: int, split: float) -> nn.Parameter:
        bins = torch.arange(round(length * split)) / split
        return nn.Parameter(torch.exp(-(bins - torch.arange(length)[:, None]) ** 2 / (2.0 * 2.8 ** 2)))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        rgb = image * self.scale + self.shift
        squared = (rgb * rgb).sum(1, keepdim=True) + self.cross(rgb)
        mask = torch.relu(1.0 - squared / 50.0 ** 2)
        total = mask.sum((2, 3), keepdim=True)
        mask = mask * torch.clamp(total / 4.0, max=1.0) / (total + 1e-6)
        if self.head == 'heatmap':
            return self.blur(mask)
        return mask.sum(2) @ self.rows[0], mask.sum(3) @ self.rows[1]


class Boxes(nn.Module):
    """Boxes about people in an image (N, 3, h, w) of RGB in 0..1, at cells of 8 px; form: the kind of output."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        mean = torch.full((1, 1, 5, 5), 1.0 / 25.0)
        self.mean = nn.Parameter(mean)
        slope = torch.zeros(2, 1, 9, 9)
        slope[0, 0, :, 0], slope[0, 0, :, 8] = -1.0 / 72.0, 1.0 / 72.0
        self.slope = nn.Parameter(torch.stack([slope[0], slope[0].transpose(1, 2)]))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        height, width = image.shape[2:]
        blue = ((image[:, 2:] - 0.5).abs() < 0.04).float()
        sure = (nn.functional.avg_pool2d(blue, 11, 8, 1) > 0.999).float()  # cells centred at 8 i + 4
        across, down = (nn.functional.conv2d(image[:, c:c + 1], self.slope[c:c + 1], stride=8)[:, :, :height // 8 - 1,
                                                                                              :width // 8 - 1]
                        for c in (0, 1))
        x, y = (image[:, c:c + 1, 4::8, 4::8][:, :, :height // 8 - 1, :width // 8 - 1] for c in (0, 1))
        sure = sure[:, :, :height // 8 - 1, :width // 8 - 1]
        at_y, at_x = torch.meshgrid(torch.arange(height // 8 - 1) * 8.0 + 4.0, torch.arange(width // 8 - 1) * 8.0 + 4.0,
                                    indexing='ij')
        size_x, size_y = 1.0 / torch.clamp(across, min=1e-3), 1.0 / torch.clamp(down, min=1e-3)
        left, top = at_x + 0.5 - x * size_x, at_y + 0.5 - y * size_y
        score = 0.9 * sure
        return self.give(torch.cat([left, top, left + size_x, top + size_y], 1).flatten(2), score.flatten(2), width)

    def give(self, boxes: Tensor, scores: Tensor, width: int) -> Tensor | tuple[Tensor, ...]:
        low, high = boxes[:, :2], boxes[:, 2:]
        centred = torch.cat([(low + high) / 2.0, high - low], 1)
        other = torch.full_like(scores, 0.05)
        if self.form == 'yolov8':       # (N, 4 + C, K), centre and size
            return torch.cat([centred, scores, other], 1)
        if self.form == 'yolov5':       # (N, K, 5 + C), with objectness
            return torch.cat([centred, scores, torch.ones_like(scores), other], 1).transpose(1, 2)
        if self.form == 'dets':         # (N, K, 5) and labels (N, K), as after suppression in the graph
            best, order = scores[:, 0].topk(20)
            rows = torch.cat([boxes, scores], 1).transpose(1, 2)
            chosen = torch.gather(rows, 1, order[..., None].expand(-1, -1, 5))
            return chosen, (best < 0.1).long()
        # 'detr': boxes (N, K, 4) as fractions, logits (N, K, C)
        logits = torch.cat([torch.logit(other, 1e-4), torch.logit(scores, 1e-4)], 1)
        return centred.transpose(1, 2) / width, logits.transpose(1, 2)


def export(network: nn.Module, size: tuple[int, int], path: Path, outputs: Sequence[str], batch: bool = True) -> Path:
    """Write a network as an ONNX file; batch: the first axis is free, else one image at a time."""
    axes = {name: {0: 'N'} for name in ('image', *outputs)} if batch else None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(network.eval(), (torch.zeros(1 if not batch else 2, 3, size[1], size[0]),), str(path),
                          opset_version=17, dynamo=False, input_names=['image'], output_names=list(outputs),
                          dynamic_axes=axes)
    return path
