"""The tables of PoseNet3D on our data: what is measured of which variant, from held-out clips with their truth.

Measures are the paper's (section 4.2). P-MPJPE: every pose is brought to the truth by the rotation, shift and scale
that fit best. MPJVE: of the sequences that were so aligned, frame by frame, the mean distance of the joints' steps from
one frame to the next from the true steps, in mm per frame at 30 Hz. MBLSTD: of the aligned sequences too, the standard
deviation of the lengths of eight limb bones, in mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pose3d_ros.nets.body_model import BodyModel
from pose3d_ros.nets.posenet3d import HIPS, JOINTS, Body, PoseNet3D, normalised
from pose3d_ros.skeleton import LIMBS12
from pose3d_ros.train.loop import CHECKPOINT, read_checkpoint
from pose3d_ros.train.metrics import mblstd, procrustes
from pose3d_ros.train.posenet3d import load_teacher
from pose3d_ros.train.posenet3d_data import Clips, clips_of, joint_points
from pose3d_ros.train.posenet3d_student import StudentTraining, load_student
from pose3d_ros.train.posenet3d_variants import VARIANTS, is_teacher
from pose3d_ros.train.recording import Recording, RecordingError

Figures = dict[str, float]

RATE = 30.0          # Hz: of the frames that MPJVE is told by
WINDOWS = ('centred', 'causal', 'single')
AVERAGED = ('student_convex', 'finetuned', 'robust_student', 'robust')   # whose branches say the same thing
_AT_ONCE = 2048


@dataclass(frozen=True)
class TrainedVariant:
    """A variant as it came out of training; student: None for one of step 1."""

    name: str
    net: PoseNet3D
    student: StudentTraining | None
    step: int
    seconds: float
    width: int


def load_variants(folder: Path, model: BodyModel, digest: str = '') -> dict[str, TrainedVariant]:
    """Return the variants found in a folder by name, in the order of VARIANTS.

    digest: of the body model's file. Raises CheckpointError, also for a student of another body model.
    """
    found = {}
    for name in VARIANTS:
        path = folder / name / CHECKPOINT
        if not path.exists():
            continue
        student = None
        if is_teacher(name):
            net, teacher, _ = load_teacher(path)
        else:
            student, _, teacher, _ = load_student(path, model, digest)
            net = student.net
        state = read_checkpoint(path)
        found[name] = TrainedVariant(name, net.eval(), student, int(state['step']), float(state['seconds']),
                                     teacher.width)
    return found


@dataclass(frozen=True)
class Scene:
    """N poses to be told: whole clips of a recording, every view by itself, one sequence after the other.

    moments, views, sequence (N,); truth (N, 14, 3) m in the frame of each camera; rate in Hz.
    """

    clips: Clips
    moments: NDArray[np.intp]
    views: NDArray[np.intp]
    sequence: NDArray[np.intp]
    truth: NDArray[np.float64]
    rate: float

    @classmethod
    def of(cls, recording: Recording, truth: NDArray, most: int = 0) -> Scene:
        """Return the scene of a recording with its truth (F, 17, 3) m. Raises RecordingError.

        most: moments at about which no more clips are taken; of all clips every so many-th is. 0: all.
        """
        if len(truth) != len(recording):
            raise RecordingError(f'the truth has {len(truth)} moments, the recording {len(recording)}: not its own')
        numbers = np.unique(recording.clip)
        if most and len(recording) > most:
            numbers = numbers[::max(1, round(len(recording) / most))]
        chosen = np.flatnonzero(np.isin(recording.clip, numbers))
        count = len(recording.camera_T_world)
        moments, views = np.tile(chosen, count), np.repeat(np.arange(count), len(chosen))
        changes = (np.diff(recording.clip[moments]) != 0) | (np.diff(views) != 0)
        poses = recording.camera_T_world[views]
        local = (joint_points() @ truth[moments]) @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]
        return cls(clips_of(recording), moments, views, np.append(0, np.cumsum(changes)), local, float(recording.rate))

    def __len__(self) -> int:
        return len(self.moments)

    def where(self, chosen: NDArray) -> Scene:
        """Return some of the poses; what was a sequence may have gaps then."""
        return Scene(self.clips, self.moments[chosen], self.views[chosen], self.sequence[chosen], self.truth[chosen],
                     self.rate)

    def shown(self, frames: int, window: str) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        """Return clips (N, frames, 14, 2), what is seen of them (N, frames, 14), and which frame is the moment.

        window: 'centred', 'causal' (it ends at the moment) or 'single' (nothing but the moment, copied).
        """
        if window == 'single':
            clip, seen = self.clips.windows(self.moments, self.views, 1)
            return clip.repeat(frames, axis=1), seen.repeat(frames, axis=1), frames // 2
        frame = {'centred': frames // 2, 'causal': frames - 1}[window]
        return (*self.clips.windows(self.moments, self.views, frames, frame), frame)


@torch.no_grad()
def said(variant: TrainedVariant, scene: Scene, window: str = 'centred') -> dict[str, NDArray[np.float64]]:
    """Return the joints (N, 14, 3) in units that a variant's branches give, by the names of their figures.

    Those of a student are its adapted joints. NaN for people whose hips are not seen.
    """
    parts: dict[str, list[NDArray]] = {}
    for start in range(0, len(scene), _AT_ONCE):
        part = scene.where(np.arange(start, min(start + _AT_ONCE, len(scene))))
        clip, seen, frame = part.shown(variant.net.frames, window)
        shown, known = normalised(torch.from_numpy(clip), torch.from_numpy(seen))[0], torch.from_numpy(seen)
        features = variant.net.features(shown, known)
        lifted = variant.net.lift(features, shown, known)[:, frame]
        if variant.student is None:
            told = {variant.name: lifted}
        else:
            body = variant.net.body(features, [frame])
            joints = variant.student.adaptation(variant.student.model, body)[:, 0]
            told = {variant.name: joints}
            if variant.student.source == 'both':
                told[f'{variant.name}_lifted'] = lifted
            if variant.name in AVERAGED:
                told[f'{variant.name}_average'] = 0.5 * (joints + lifted)
        for name, joints in told.items():
            parts.setdefault(name, []).append(joints.numpy().astype(np.float64))
    rootless = scene.clips.seen[scene.moments, scene.views, HIPS[0]] == 0
    result = {name: np.concatenate(part) for name, part in parts.items()}
    for joints in result.values():
        joints[rootless] = np.nan
    return result


def steps(poses: NDArray, scene: Scene) -> NDArray[np.float64]:
    """Return how far joints of poses (N, J, 3) move from one frame to the next within sequences, per frame at RATE."""
    together = np.diff(scene.sequence) == 0
    return np.diff(poses, axis=0)[together] * scene.rate / RATE


def velocity_error(aligned: NDArray, scene: Scene) -> float:
    """Return MPJVE [mm per frame at 30 Hz] of aligned poses (N, 14, 3) m."""
    return 1e3 * float(np.nanmean(np.linalg.norm(steps(aligned, scene) - steps(scene.truth, scene), axis=-1)))


def bone_deviation(aligned: NDArray, scene: Scene) -> float:
    """Return MBLSTD [mm] of aligned poses (N, 14, 3) m, mean over sequences."""
    limbs = aligned[:, [JOINTS.index(joint) for joint in LIMBS12.joints]]
    bounds = np.flatnonzero(np.diff(scene.sequence)) + 1
    return 1e3 * float(np.nanmean([mblstd(part[None]) for part in np.split(limbs, bounds)]))


def flipped(joints: NDArray, scene: Scene, errors: NDArray) -> float:
    """Return the share of poses (N, 14, 3) that would be nearer to the truth with their depths the other way round."""
    turned = np.linalg.norm(procrustes(joints * [1, 1, -1], scene.truth) - scene.truth, axis=-1).mean(axis=1)
    known = np.isfinite(errors)
    return float((turned < errors)[known].mean())


def measured(joints: NDArray, scene: Scene) -> Figures:
    """Return the measures of joints (N, 14, 3): P-MPJPE, MPJVE, MBLSTD in mm, and the share that is flipped."""
    aligned = procrustes(joints, scene.truth)
    errors = np.linalg.norm(aligned - scene.truth, axis=-1).mean(axis=1)
    return {'p_mpjpe': 1e3 * float(np.nanmean(errors)), 'mpjve': velocity_error(aligned, scene),
            'mblstd': bone_deviation(aligned, scene), 'flipped': flipped(joints, scene, errors)}


def figures(variant: TrainedVariant, scene: Scene, detected: Scene | None = None) -> dict[str, Figures]:
    """Return all figures of a variant's branches by their names.

    As in the paper, P-MPJPE is told of true 2D where nothing else is said, MPJVE and MBLSTD of a detector's.
    """
    found: dict[str, Figures] = {}
    for window in WINDOWS if variant.net.frames > 1 else WINDOWS[:1]:
        about = '' if window == 'centred' else f'_{window}'
        for each, accuracy, smoothness in ((scene, '', '_gt'), (detected, '_detected', '')):
            if each is None:
                continue
            for name, joints in said(variant, each, window).items():
                row, values = found.setdefault(name, {}), measured(joints, each)
                row[f'p_mpjpe{about}{accuracy}_mm'] = values['p_mpjpe']
                if window != 'single':
                    row[f'mpjve{about}{smoothness}_mm'] = values['mpjve']
                if window == 'centred':
                    row[f'mblstd{smoothness}_mm'] = values['mblstd']
                    row[f'flipped{accuracy}_share'] = values['flipped']
    return found


def with_average(found: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return the figures with those of both branches' average under its own name: after step 4, or before it."""
    result = dict(found)
    average = result.pop('finetuned_average', None) or result.get('student_convex_average')
    return result | ({'average': average} if average else {})


def compare(found: Mapping[str, Figures]) -> Figures:
    """Return the comparisons that the issue asks for, of what was trained."""
    pairs = {'mpjve_1_over_9': ('teacher_1', 'teacher_9', 'mpjve_mm'),
             'teacher_over_supervised': ('teacher_9', 'supervised', 'p_mpjpe_mm'),
             'direct_over_distilled': ('student_direct', 'student_distilled', 'p_mpjpe_mm'),
             'direct_adapted_over_convex': ('student_direct_adapted', 'student_convex', 'p_mpjpe_mm'),
             'distilled_over_convex': ('student_distilled', 'student_convex', 'p_mpjpe_mm'),
             'linear_over_convex': ('student_linear', 'student_convex', 'p_mpjpe_mm')}
    return {name: found[a][key] / found[b][key] for name, (a, b, key) in pairs.items()
            if key in found.get(a, {}) and key in found.get(b, {})}


@torch.no_grad()
def bodies(variant: TrainedVariant, scene: Scene) -> Body:
    """Return what a student says of a scene's poses: rotations (N, 1, 24, 3, 3), shape (N, 10), scale (N, 1)."""
    clip, seen, frame = scene.shown(variant.net.frames, 'centred')
    shown, known = normalised(torch.from_numpy(clip), torch.from_numpy(seen))[0], torch.from_numpy(seen)
    return variant.net.body(variant.net.features(shown, known), [frame])
