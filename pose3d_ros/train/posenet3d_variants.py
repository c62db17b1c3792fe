"""What PoseNet3D is trained as: the rows of the paper's tables, and what robots run.

All of it sees 2D alone, but for `supervised`, which train/posenet3d_labels.py trains to compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pose3d_ros.nets.body_model import BodyModel
from pose3d_ros.train.loop import CHECKPOINT, Run
from pose3d_ros.train.posenet3d import TeacherSettings, train_teacher
from pose3d_ros.train.posenet3d_student import StudentSettings, train_student
from pose3d_ros.train.recording import Recording


@dataclass(frozen=True)
class Variant:
    """One way to train. changes: of TeacherSettings, or of StudentSettings where there is something to begin with.

    begin: the variant that a student's training begins with, '' for a teacher.
    """

    purpose: str
    changes: dict[str, Any] = field(default_factory=dict)
    begin: str = ''


VARIANTS = {
    'teacher_9': Variant('step 1: nine frames'),
    'teacher_1': Variant('step 1: one frame', {'frames': 1}),
    'supervised': Variant('the same network with labels, for comparison'),
    'no_consistency': Variant('step 1 without equation 2', {'consistency': 0.0}),
    'no_smooth': Variant('step 1 without equation 3', {'smooth': 0.0}),
    'no_bones': Variant('step 1 without equation 4', {'bones': 0.0}),
    'no_adversary': Variant('step 1 without equation 5', {'adversarial': 0.0}),
    'published_views': Variant('step 1 with random views as published', {'rotation': 'camera'}),
    'published_loss': Variant('step 1 with the adversarial loss as published', {'squares': False}),
    'student_direct': Variant('re-projection alone', {'source': 'direct', 'adaptation': 'none'}, 'teacher_9'),
    'student_direct_adapted': Variant('re-projection alone, with joint adaptation', {'source': 'direct'}, 'teacher_9'),
    'student_distilled': Variant('step 2: equation 7 with the joints of the model', {'adaptation': 'none'},
                                 'teacher_9'),
    'student_linear': Variant('steps 2 and 3 with equation 6', {'adaptation': 'linear'}, 'teacher_9'),
    'student_convex': Variant('steps 2 and 3: the method', {}, 'teacher_9'),
    'student_no_pose': Variant('steps 2 and 3 without equation 8', {'pose': 0.0}, 'teacher_9'),
    'student_no_shape': Variant('steps 2 and 3 without L_beta', {'shape': 0.0}, 'teacher_9'),
    'finetuned': Variant('step 4: everything together', {'source': 'both', 'release': 0.0}, 'student_convex'),
    'robust_teacher': Variant('step 1 for robots: what is lifted again has errors and gaps',
                              {'noise': 0.1, 'hidden': 0.5}),
    'robust_student': Variant('steps 2 and 3 for robots: what ships', {}, 'robust_teacher'),
    'robust': Variant('step 4 for robots', {'source': 'both', 'release': 0.0}, 'robust_student'),
}
DEPLOYED = 'robust_student'


def is_teacher(name: str) -> bool:
    """Whether a variant is one of step 1."""
    return not VARIANTS[name].begin


def train_variant(name: str, recording: Recording, validation: Recording, out: Path, model: BodyModel,
                  teacher: TeacherSettings, student: StudentSettings, minutes: float = math.inf, command: str = '',
                  quiet: bool = False) -> Run:
    """Train a variant in out / name; what it begins with lies beside it.

    teacher, student: settings where the variant has none of its own. Raises CheckpointError (also where what it begins
    with is not there) and TrainingError; ValueError for `supervised`.
    """
    if name == 'supervised':
        raise ValueError('supervised needs 3D poses: train/posenet3d_labels.py')
    variant = VARIANTS[name]
    if not variant.begin:
        return train_teacher(recording, validation, out / name, teacher_settings(name, teacher), minutes, command,
                             quiet)
    settings = replace(student, variant=name, **variant.changes)
    return train_student(recording, validation, out / variant.begin / CHECKPOINT, out / name, settings, model, minutes,
                         command, quiet)


def teacher_settings(name: str, settings: TeacherSettings) -> TeacherSettings:
    """Return the settings of a variant of step 1."""
    return replace(settings, variant=name, **VARIANTS[name].changes)
