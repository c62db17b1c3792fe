"""How right the image network is: attributes, joints in 2D, the domain, and joints in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.attributes import KIND_OF, KINDS, UNKNOWN, attributes
from pose3d_ros.detect.heads import decode_heatmaps
from pose3d_ros.nets.hourglass import MultiTaskNet, soft_argmax
from pose3d_ros.nets.parts import PartsNet
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.image_sets import ImageSet
from pose3d_ros.train.loop import CHECKPOINT
from pose3d_ros.train.metrics import joint_errors
from pose3d_ros.train.multitask import STRATEGIES, as_input, load_trained
from pose3d_ros.train.multitask_joined import crop_cameras, lift, load_joined, load_lift

STEPS = ('multitask', 'lift', 'joined')   # the folders of the three steps of a training
HEAD = HUMAN17.indices(['neck', 'head'])
LEAST_HEAD = 0.12      # of the larger side of the box about the joints: a head seen from above is taken to be so long
PART = 256             # images at a time

Figures = dict[str, float]


@dataclass(frozen=True)
class Predicted:
    """What a network says of N images: joints2d (N, 17, 2) px, of soft-argmax, as the 3D network is told; peaks (N, 17,
    2) px, where the hills are highest, as robots read heat maps; attributes (N, 9, 3) probabilities; second (N,):
    probability that it is an image of the second domain.
    """

    joints2d: NDArray[np.float32]
    peaks: NDArray[np.float32]
    attributes: NDArray[np.float32]
    second: NDArray[np.float32]


def predict(network: MultiTaskNet, images: NDArray[np.uint8]) -> Predicted:
    """Return what the network says of images (N, S, S, 3)."""
    found: list[tuple[NDArray, ...]] = []
    network.eval()
    for start in range(0, len(images), PART):
        with torch.no_grad():
            answers = network(as_input(torch.from_numpy(np.ascontiguousarray(images[start:start + PART]))))
        maps = answers.heatmaps[-1]
        peaks = decode_heatmaps(maps.numpy(), (network.size, network.size), grid='centres').points
        found.append((soft_argmax(maps).numpy(), peaks.astype(np.float32), answers.attributes.softmax(dim=2).numpy(),
                      answers.domain.softmax(dim=1)[:, 1].numpy()))
    return Predicted(*(np.concatenate(parts) for parts in zip(*found)))


def attribute_accuracy(predicted: NDArray, labels: NDArray) -> Figures:
    """Return the share of right attributes per kind of joint, and `mean`, that over the kinds as in the paper.

    predicted (N, 9, 3) probabilities; labels (N, 9): class, or -1 where it is not known.
    """
    right, known = predicted.argmax(axis=-1) == labels, labels != UNKNOWN
    shares = {kind: _share(right, known & (number == KIND_OF)) for number, kind in enumerate(KINDS)}
    return {**shares, 'mean': float(np.mean(list(shares.values())))}


def most_frequent(labels: NDArray) -> Figures:
    """Return the accuracy of who always says the most frequent class of labels (N, 9) for every joint."""
    counts = np.stack([(labels == number).sum(axis=0) for number in range(3)])
    guess = np.eye(3)[counts.argmax(axis=0)]
    return attribute_accuracy(np.broadcast_to(guess, (*labels.shape, 3)), labels)


def pckh(predicted: NDArray, images: ImageSet) -> float:
    """Return the share of visible joints nearer than half a head's length to where they are (after PCKh@0.5 of MPII).

    The head reaches from the neck to its top; MPII has boxes instead, which other sets lack.
    """
    off = np.linalg.norm(predicted - images.joints2d, axis=-1)
    return _share(off < 0.5 * head_lengths(images)[:, None], images.visible & np.isfinite(off))


def sides(predicted: NDArray, images: ImageSet) -> float:
    """Return the share of visible left and right joints that are nearer to where they are than to their namesake.

    Of those that are at least a head's length apart in the image; half of them is guessing.
    """
    other = images.joints2d[:, HUMAN17.mirror]
    apart = np.linalg.norm(other - images.joints2d, axis=-1) > head_lengths(images)[:, None]    # never of middle joints
    nearer = np.linalg.norm(predicted - images.joints2d, axis=-1) < np.linalg.norm(predicted - other, axis=-1)
    return _share(nearer, apart & images.visible)


def head_lengths(images: ImageSet) -> NDArray[np.float64]:
    """Return the length (N,) px of every head, at least LEAST_HEAD of the body."""
    box = np.nanmax(images.joints2d, axis=1) - np.nanmin(images.joints2d, axis=1)
    head = np.linalg.norm(images.joints2d[:, HEAD[0]] - images.joints2d[:, HEAD[1]], axis=-1)
    return np.asarray(np.fmax(head, LEAST_HEAD * box.max(axis=1)))


def image_figures(network: MultiTaskNet, images: ImageSet) -> Figures:
    """Return accuracies on a set: `pckh`, `error_px` (mean of visible joints), `sides`, `second` (share that the
    classifier takes for the second domain), and where there is 3D those of the attributes, with their names."""
    found = predict(network, images.images)
    off = np.linalg.norm(found.peaks - images.joints2d, axis=-1)
    seen = images.visible & np.isfinite(off)
    figures = {'pckh': pckh(found.peaks, images), 'error_px': float(off[seen].mean()) if seen.any() else np.nan,
               'sides': sides(found.peaks, images), 'second': float((found.second > 0.5).mean())}
    if images.joints3d is not None:
        figures |= attribute_accuracy(found.attributes, attributes(images.joints3d))
    return figures


def pose_figures(image: MultiTaskNet, parts: PartsNet, images: ImageSet) -> Figures:
    """Return `mpjpe_mm` about the pelvis of what both networks make of a set, and `mpjpe_true_attributes_mm`: had the
    attributes been right."""
    assert images.joints3d is not None
    found, cameras = predict(image, images.images), crop_cameras(images)
    known = attributes(images.joints3d)
    true = np.eye(3, dtype=np.float32)[np.maximum(known, 0)] * (known != UNKNOWN)[..., None]
    figures, parts = {}, parts.eval()
    for name, told in (('mpjpe_mm', found.attributes), ('mpjpe_true_attributes_mm', true.astype(np.float32))):
        with torch.no_grad():
            poses = lift(parts, *(torch.from_numpy(array) for array in (found.joints2d, cameras, told)))[-1].numpy()
        figures[name] = 1000 * float(np.nanmean(joint_errors(poses, images.joints3d)))
    return figures


def evaluate(runs: Path, sets: Mapping[str, ImageSet]) -> dict[str, dict[str, Figures]]:
    """Return figures of every strategy that was trained in a folder, on every set by its name.

    Of attributes and 2D after step one; `mpjpe_mm` after step two, and with `joined_` before their names all figures
    after step three, where these steps were taken. Raises CheckpointError.
    """
    found: dict[str, dict[str, Figures]] = {}
    for strategy in STRATEGIES:
        places = {step: runs / strategy / step / CHECKPOINT for step in STEPS}
        if not places['multitask'].exists():
            continue
        image = load_trained(places['multitask'])[0]
        parts = load_lift(places['lift']) if places['lift'].exists() else None
        joined = load_joined(places['joined']) if places['joined'].exists() else None
        found[strategy] = {}
        for name, images in sets.items():
            figures = image_figures(image, images)
            if parts is not None and images.joints3d is not None:
                figures |= pose_figures(image, parts, images)
            if joined is not None:
                after = image_figures(joined.image, images)
                if images.joints3d is not None:
                    after |= pose_figures(joined.image, joined.parts, images)
                figures |= {f'joined_{key}': value for key, value in after.items()}
            found[strategy][name] = figures
    return found


def _share(right: NDArray, counted: NDArray) -> float:
    counted = np.broadcast_to(counted, right.shape)
    return float(right[counted].mean()) if counted.any() else float('nan')
