"""`pose3d train posenet3d`: the temporal teacher from 2D alone, and the students that give a body model."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pose3d_ros.body_model import MANNEQUIN
from pose3d_ros.body_model_file import BodyArrays, BodyModelError, read_body_arrays
from pose3d_ros.cli.errors import UserError
from pose3d_ros.cli.train import add_training_options, positive

if TYPE_CHECKING:
    from pose3d_ros.nets.body_model import BodyModel
    from pose3d_ros.train.loop import Run
    from pose3d_ros.train.posenet3d import TeacherSettings
    from pose3d_ros.train.posenet3d_student import StudentSettings
    from pose3d_ros.train.recording import Recording

STEPS, WIDTH, DROPOUT, BATCH = 5000, 256, 0.1, 256
STUDENT_STEPS, STUDENT_BATCH = 3000, 256
DEFAULT_VARIANTS = ('teacher_9', 'student_convex', 'finetuned')
SUPERVISED = 'supervised'
# Those of train/posenet3d_variants.py, which would bring PyTorch with them; a test compares.
VARIANTS = ('teacher_9', 'teacher_1', 'supervised', 'no_consistency', 'no_smooth', 'no_bones', 'no_adversary',
            'published_views', 'published_loss', 'student_direct', 'student_direct_adapted', 'student_distilled',
            'student_linear', 'student_convex', 'student_no_pose', 'student_no_shape', 'finetuned', 'robust_teacher',
            'robust_student', 'robust')


def add_train_parser(networks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train posenet3d`."""
    parser = networks.add_parser(
        'posenet3d', help='without labels: a temporal teacher, and students that give a body model',
        description='Train variants of PoseNet3D on a recording (pose3d record), one after the other, each in its own '
                    'folder of --out: the same command again continues. What a student begins with must be asked for '
                    'too, or be there already. No 3D pose is read, but for supervised (--truth), which is there to '
                    'compare with. Afterwards: pose3d evaluate posenet3d --runs DIR.')
    parser.add_argument('--recording', type=Path, required=True, metavar='NPZ', help='2D joints to train on')
    parser.add_argument('--validation', type=Path, required=True, metavar='NPZ', help='2D joints to watch it on')
    add_training_options(parser, STEPS)
    parser.add_argument('--variants', nargs='+', default=list(DEFAULT_VARIANTS), choices=VARIANTS, metavar='NAME',
                        help=f'of {", ".join(VARIANTS)} (default {" ".join(DEFAULT_VARIANTS)}); --minutes counts for '
                             'each')
    parser.add_argument('--student-steps', type=positive, default=STUDENT_STEPS, metavar='N',
                        help='length of the training of whatever gives a body (default %(default)s); --steps is that '
                             'of teachers')
    parser.add_argument('--truth', type=Path, metavar='NPZ', help='true joints of --recording, for supervised')
    parser.add_argument('--body-model', type=Path, default=MANNEQUIN, metavar='NPZ',
                        help='of the students (default: the mannequin that ships; pose3d body-model convert makes one '
                             'of a file of SMPL)')
    parser.add_argument('--width', type=positive, default=WIDTH, metavar='N',
                        help='features of the hidden layers (default %(default)s; published: 1024); a student has '
                             "its teacher's")
    parser.add_argument('--dropout', type=float, default=DROPOUT, metavar='P', help='default %(default)s')
    parser.add_argument('--batch', type=positive, default=BATCH, metavar='N',
                        help='clips per step, of teachers (default %(default)s; published: 6000)')
    parser.add_argument('--student-batch', type=positive, default=STUDENT_BATCH, metavar='N',
                        help='clips per step, of students (default %(default)s)')


def train(args: argparse.Namespace) -> int:
    """Train one variant after the other, until done or interrupted; the same command continues."""
    from pose3d_ros.nets.body_model import BodyModel
    from pose3d_ros.train.loop import CHECKPOINT, CheckpointError, TrainingError, limit_threads
    from pose3d_ros.train.recording import RecordingError, load_recording

    names = ordered(args)
    if args.threads:
        limit_threads(args.threads)
    try:
        arrays, digest = body_arrays(args.body_model)
        recording, validation = load_recording(args.recording), load_recording(args.validation)
        print(f'{len(recording)} moments of {recording.rays.shape[1]} cameras to train on, '
              f'{len(validation)} to watch it')
        settings = settings_of(args, digest)
        for name in names:
            run = _train(name, args, recording, validation, settings, BodyModel(arrays))
            print(f'{name}: {run.step} steps in {run.seconds / 60:.1f} minutes: {args.out / name / CHECKPOINT}')
    except (CheckpointError, RecordingError, TrainingError) as error:
        raise UserError(str(error)) from error
    return 0


def ordered(args: argparse.Namespace) -> list[str]:
    """Return what to train, such that what a variant begins with comes before it. Raises UserError."""
    from pose3d_ros.train.loop import CHECKPOINT
    from pose3d_ros.train.posenet3d_variants import VARIANTS as KNOWN

    names = [name for name in VARIANTS if name in args.variants]
    if SUPERVISED in names and args.truth is None:
        raise UserError(f'{SUPERVISED} needs 3D poses: give --truth FILE, of `pose3d record --truth FILE`')
    if not 0 <= args.dropout < 1:
        raise UserError(f'--dropout {args.dropout:g}: expected 0 or more, and less than 1')
    for name in names:
        begin = KNOWN[name].begin
        if begin and begin not in names and not (args.out / begin / CHECKPOINT).exists():
            raise UserError(f'{name} begins with {begin}, which is not in {args.out}: add {begin} to --variants')
    return names


def body_arrays(path: Path) -> tuple[BodyArrays, str]:
    """Return a body model and the SHA-256 of its file. Raises UserError."""
    try:
        return read_body_arrays(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except (BodyModelError, OSError) as error:
        raise UserError(str(error)) from error


def settings_of(args: argparse.Namespace, digest: str) -> tuple[TeacherSettings, StudentSettings]:
    """Return the settings of teachers and of students; digest: of the body model."""
    from pose3d_ros.train.posenet3d import TeacherSettings
    from pose3d_ros.train.posenet3d_student import StudentSettings

    teacher = TeacherSettings(width=args.width, dropout=args.dropout, batch=args.batch)
    student = StudentSettings(batch=args.student_batch, body_model=digest)
    return (replace(teacher, loop=replace(teacher.loop, steps=args.steps, seed=args.seed)),
            replace(student, loop=replace(student.loop, steps=args.student_steps, seed=args.seed)))


def _train(name: str, args: argparse.Namespace, recording: Recording, validation: Recording,
           settings: tuple[TeacherSettings, StudentSettings], model: BodyModel) -> Run:
    """Train a variant; the one that needs 3D poses alone has the module that knows them."""
    from pose3d_ros.train.posenet3d_variants import teacher_settings, train_variant

    limits = (args.minutes, command_of(args, name))
    if name != SUPERVISED:
        return train_variant(name, recording, validation, args.out, model, *settings, *limits)
    from pose3d_ros.train.posenet3d_labels import train_supervised
    from pose3d_ros.train.recording import load_truth

    return train_supervised(recording, load_truth(args.truth), validation, args.out / name,
                            teacher_settings(name, settings[0]), *limits)


def command_of(args: argparse.Namespace, name: str) -> str:
    """Return the command as it will be noted in checkpoints: without the folders of this machine."""
    words = [f'pose3d train posenet3d --recording {args.recording.name} --variants {name}']
    if name == SUPERVISED:
        words.append(f'--truth {args.truth.name}')
    if args.body_model != MANNEQUIN:
        words.append(f'--body-model {args.body_model.name}')
    defaults = (('steps', STEPS), ('student_steps', STUDENT_STEPS), ('minutes', float('inf')), ('seed', 0),
                ('width', WIDTH), ('dropout', DROPOUT), ('batch', BATCH), ('student_batch', STUDENT_BATCH))
    words += [f'--{option.replace("_", "-")} {getattr(args, option)}' for option, default in defaults
              if getattr(args, option) != default]
    return ' '.join(words)
