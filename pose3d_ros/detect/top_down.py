"""Joints of people by a network that reads one person in a crop: RTMPose, HRNet, ViTPose and their like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pose3d_ros.detect import regions as rois
from pose3d_ros.detect.description import DescriptionError, JointsDescription
from pose3d_ros.detect.heads import Decoded, decode_heatmaps, decode_simcc
from pose3d_ros.detect.network_input import NetworkInput
from pose3d_ros.detect.poses import ATTRIBUTES_SHAPE, Poses, no_attributes
from pose3d_ros.runtime.engine import Engine

# A region that follows from a circle holds the body with this padding; other paddings are taken in proportion.
_USUAL_PADDING = 1.25
_BEYOND_JOINTS = 1.15  # extent of a body over that of its joints: the head above the eyes, hands, feet
_SHOWN = 0.3      # confidence from which a joint says where the body is
_SHRINK = 0.9     # a crop becomes smaller by no more than this from frame to frame: joints flicker
_LEAST_SHARE = 0.05  # confidence below which sigma grows no further


class TopDownReader:
    """Reads joints as its description says (a JointReader, reader.py). Raises DescriptionError where that cannot be.

    The crop has the height of the region, times padding / 1.25, and the aspect of the network's input. It follows the
    joints that are seen: about the hips while both are, else about the part of the body in view.
    """

    def __init__(self, description: JointsDescription, engine: Engine) -> None:
        self.description = description
        self.skeleton = description.skeleton
        self.engine = engine
        self._input = NetworkInput(description.input, engine, description.source)
        self._names = _outputs(description, engine)
        self._hips, self._shoulders = (
            self.skeleton.indices([f'left_{joint}', f'right_{joint}']) for joint in ('hip', 'shoulder'))
        self._check()

    def __call__(self, views: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]) -> list[Poses]:
        """Return the joints read in the regions (N, 4) of each image; see JointReader."""
        regions = np.concatenate([wanted for _, wanted in views])
        maps = self._crop_maps(regions)
        batch, place = self._input.room(len(regions)), 0
        for image, wanted in views:
            for _ in wanted:
                self._input.fill(batch[place], image, maps[place])
                place += 1
        parts = [(self._decode(outputs, count), self._attributes(outputs, count))
                 for count, outputs in self._input.run(batch)]
        joints, attributes = Decoded.join([part for part, _ in parts]), np.concatenate([told for _, told in parts])
        poses, ends = self._poses(joints, attributes, maps, regions), np.cumsum([len(wanted) for _, wanted in views])
        return [poses[end - len(wanted):end] for (_, wanted), end in zip(views, ends)]

    def _crop_maps(self, regions: NDArray) -> NDArray[np.float64]:
        """Return the maps (N, 2, 3) from px of the crops to px of the image."""
        width, height = self.description.input.size
        scale = regions[:, 2] * (self.description.padding / _USUAL_PADDING) / height
        angle = regions[:, 3] if self.description.turned else np.zeros(len(regions))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        turn = np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
        shift = regions[:, :2] - turn @ np.array([width / 2.0, height / 2.0])
        return np.concatenate([turn, shift[..., None]], axis=-1)

    def _decode(self, outputs: Mapping[str, NDArray], count: int) -> Decoded:
        given = [outputs[name][:count] for name in self._names]
        size, spec = self.description.input.size, self.description
        if spec.head == 'simcc':
            return decode_simcc(given[0], given[1], size, spec.split_ratio, spec.values, spec.refine)
        maps = given[0]
        if maps.shape[1] != len(self.skeleton):  # channels last, as the start has found
            maps = np.moveaxis(maps, -1, 1)
        return decode_heatmaps(maps, size, spec.grid, spec.values, spec.refine)

    def _attributes(self, outputs: Mapping[str, NDArray], count: int) -> NDArray[np.float64]:
        """Return the pose attributes (count, 9, 3), NaN throughout for who has none that are probabilities."""
        if not self.description.attributes:
            return no_attributes(count)
        told = outputs[self.description.attributes][:count].astype(np.float64)
        sound = ((told > -0.01) & (told < 1.01)).all(axis=(1, 2), keepdims=True)  # not so for NaN
        return np.where(sound, np.clip(told, 0.0, 1.0), np.nan)

    def _poses(self, joints: Decoded, attributes: NDArray, maps: NDArray, regions: NDArray) -> Poses:
        spec = self.description
        confidence = np.clip((joints.peak - spec.unseen) / (spec.sure - spec.unseen), 0.0, 1.0)
        doubt = 1.0 / np.maximum(confidence, _LEAST_SHARE) - 1.0
        scale = np.hypot(maps[:, 0, 0], maps[:, 1, 0])
        sigma = np.hypot(spec.sigma_least, spec.sigma_gain * joints.spread * doubt) * scale[:, None]
        pixels = rois.transform(maps, joints.points)
        best = np.sort(confidence, axis=1)[:, len(self.skeleton) // 2:]  # half of a person in view is a person
        middle, rim = self._circles(pixels, confidence, regions)
        pixels = np.where(confidence[..., None] > 0.0, pixels, middle[:, None])  # not seen: anywhere, so in the body
        return Poses(pixels=pixels, confidence=confidence, sigma=sigma, depth=np.full(confidence.shape, np.nan),
                     person=best.mean(axis=1), middle=middle, rim=rim, attributes=attributes)

    def _circles(self, pixels: NDArray, confidence: NDArray, regions: NDArray) -> tuple[NDArray, NDArray]:
        """Return the middle and the rim (N, 2) px of the circles from which the next crops follow."""
        seen = confidence >= _SHOWN
        assert isinstance(seen, np.ndarray)
        width, height = self.description.input.size
        up = self._up(pixels, seen, regions)
        right = np.stack([-up[:, 1], up[:, 0]], axis=-1)
        axes = np.stack([right, -up], axis=1)  # to the crop's x and y
        local = np.einsum('nij,nkj->nki', axes, pixels - regions[:, None, :2])
        low = np.where(seen[..., None], local, np.inf).min(axis=1)
        high = np.where(seen[..., None], local, -np.inf).max(axis=1)
        known = seen.sum(axis=1) >= 2
        with np.errstate(invalid='ignore'):
            hips = local[:, self._hips].mean(axis=1)
            centre = np.where(seen[:, self._hips].all(axis=1, keepdims=True), hips, (low + high) / 2.0)
            extent = np.maximum(high - centre, centre - low)
        needed = np.maximum(extent[:, 1], extent[:, 0] * height / width)
        radius = needed * (_BEYOND_JOINTS * _USUAL_PADDING / rois.FOLLOWED_MARGIN)
        present = regions[:, 2] / (2.0 * rois.FOLLOWED_MARGIN)
        radius = np.where(known, np.maximum(radius, _SHRINK * present), present)
        centre = np.where(known[:, None], centre, 0.0)
        middle = regions[:, :2] + np.einsum('nij,ni->nj', axes, centre)
        return middle, middle + up * radius[:, None]

    def _up(self, pixels: NDArray, seen: NDArray, regions: NDArray) -> NDArray[np.float64]:
        """Return which way is up in the next crop: (N, 2), unit length, px of the image."""
        if not self.description.turned:
            return np.tile([0.0, -1.0], (len(pixels), 1))
        spine = pixels[:, self._shoulders].mean(axis=1) - pixels[:, self._hips].mean(axis=1)
        length = np.linalg.norm(spine, axis=1)
        known = seen[:, self._hips].all(axis=1) & seen[:, self._shoulders].all(axis=1) & (length > 1.0)
        before = np.stack([np.sin(regions[:, 3]), -np.cos(regions[:, 3])], axis=-1)
        return np.where(known[:, None], spine / np.maximum(length, 1.0)[:, None], before)

    def _check(self) -> None:
        """Run the network once. Raises DescriptionError where the outputs do not fit the description."""
        attributes = self.description.attributes
        outputs = self._input.try_out([*self._names, attributes] if attributes else self._names)
        shapes = {name: outputs[name].shape for name in self._names}
        spec, joints, (width, height) = self.description, len(self.skeleton), self.description.input.size
        listed = f'{joints} joints ({self.skeleton.name})'
        if attributes and outputs[attributes].shape[1:] != ATTRIBUTES_SHAPE:
            raise DescriptionError(f'{spec.source}: output {attributes!r} is {outputs[attributes].shape}, expected '
                                   '(N, 9, 3) for nine joints of docs/parts.md; leave head.attributes out')
        if spec.head == 'simcc':
            for name, length, axis in zip(self._names, (width, height), ('width', 'height')):
                shape, bins = shapes[name], round(length * spec.split_ratio)
                self._expect(name, shape, 3, shape[1:2] == (joints,), f'(N, {joints}, {bins}) for {listed}')
                if shape[2] != bins:
                    raise DescriptionError(
                        f'{spec.source}: output {name!r} has {shape[2]} bins, expected {bins}: {axis} {length} px '
                        f'times head.split_ratio {spec.split_ratio:g}; {_bins_cure(shape[2], width, height, length)}')
            return
        name, = self._names
        shape = shapes[name]
        last = len(shape) == 4 and shape[1] != joints and shape[3] == joints
        self._expect(name, shape, 4, joints in shape[1:2] or last, f'(N, {joints}, rows, columns) for {listed}')
        rows, columns = shape[1:3] if last else shape[2:]
        if abs(columns / rows - width / height) > 0.1 * width / height:
            raise DescriptionError(f'{spec.source}: output {name!r} has maps {columns} wide and {rows} high, which is '
                                   f'not the shape of input.size {[width, height]} (width, height); correct input.size')

    def _expect(self, name: str, shape: tuple[int, ...], axes: int, fits: bool, expected: str) -> None:
        if len(shape) == axes and fits:
            return
        cure = 'head.type may be the other one' if len(shape) != axes else 'list in joints what the network gives'
        raise DescriptionError(f'{self.description.source}: output {name!r} is {shape}, expected {expected}; {cure}')


def _outputs(spec: JointsDescription, engine: Engine) -> tuple[str, ...]:
    """Return the names of the outputs that are read."""
    count = 2 if spec.head == 'simcc' else 1
    left = [name for name in engine.outputs if name != spec.attributes]
    if not left:
        raise DescriptionError(f'{spec.source}: head.attributes names {spec.attributes!r}, the only output, so none is '
                               'left for joints; leave it out')
    if not spec.outputs and len(left) < count:
        raise DescriptionError(f'{spec.source}: head.type is simcc, which has two outputs, but the network has one '
                               f'({left[0]}); head.type may be heatmap')
    names = spec.outputs or tuple(left[:count])
    for key, name in (*(('head.outputs', name) for name in names), ('head.attributes', spec.attributes)):
        if name and name not in engine.outputs:
            raise DescriptionError(f'{spec.source}: {key} names {name!r}, but the network has '
                                   f'{", ".join(engine.outputs)}; correct it')
    return tuple(names)


def _bins_cure(bins: int, width: int, height: int, length: int) -> str:
    if length == width != height and bins % height == 0:
        return 'x and y may be exchanged in head.outputs'
    return f'write head.split_ratio: {bins / length:g}'
