"""Every parameter of the nodes, once: type, default, unit, range and description. YAML and tables are made from this.

    python -m pose3d_ros.ros.params > config/mono.yaml
    python -m pose3d_ros.ros.params --markdown > docs/parameters.md
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pose3d_ros.detect import DetectSettings
from pose3d_ros.refine import RefineSettings
from pose3d_ros.ros.images import MAX_PIXELS
from pose3d_ros.runtime.engine import PRECISIONS, RUNTIMES
from pose3d_ros.track import TrackSettings

Value = bool | int | float | str
GROUND_SOURCES = ('none', 'parameters', 'tf')
S = TypeVar('S')


class ParameterError(ValueError):
    """A parameter that does not exist, or a value it cannot have; the message names it and the cure."""


@dataclass(frozen=True)
class Parameter:
    """One parameter. low, high: inclusive range of a number. choices: of a string; or_file: beside them, any name that
    ends so. settings: the settings class that has a field of this name, which the value is for. fixed: set at start
    only; the others while unconfigured too.
    """

    name: str
    default: Value
    description: str
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    or_file: str = ''
    settings: type | None = None
    fixed: bool = False

    @property
    def type_name(self) -> str:
        """Return 'bool', 'int', 'float' or 'str'."""
        return type(self.default).__name__

    @property
    def allowed(self) -> str:
        """Return the range or the choices in words, '' where anything goes."""
        if self.choices:
            return ' | '.join([*self.choices, *([f'*{self.or_file}'] if self.or_file else [])])
        return '' if self.low is None else f'{self.low:g} .. {self.high:g}'

    def check(self, value: Value) -> None:
        """Raise ParameterError for a value of another type, out of range or not among the choices."""
        if type(value) is not type(self.default):
            hint = f': write {float(value)}' if self.type_name == 'float' and type(value) is int else ''
            raise ParameterError(f'{self.name} is {value!r} ({type(value).__name__}), but must be a '
                                 f'{self.type_name}{hint}')
        in_range = self.low is None or self.high is None or self.low <= float(value) <= self.high  # False for NaN
        is_choice = value in self.choices or bool(self.or_file and str(value).endswith(self.or_file))
        if not in_range or (self.choices and not is_choice):
            raise ParameterError(f'{self.name} is {value!r}, but must be {self.allowed} {self.unit}'.rstrip())


def _of(settings: type, name: str, description: str, unit: str = '', low: float | None = None,
        high: float | None = None) -> Parameter:
    """Return the parameter for a field of a settings class, which has the default."""
    return Parameter(name, getattr(settings, name), description, unit, low, high, settings=settings)


MONO = (
    Parameter('autostart', True, 'Configure and activate at start; false leaves that to a lifecycle manager.',
              fixed=True),
    # Networks
    Parameter('detector_model', 'full', 'BlazePose landmark model (lite is fastest, heavy most accurate), or the '
              'description of a model of your own (docs/own_models.md).', choices=('lite', 'full', 'heavy'),
              or_file='.yaml'),
    Parameter('search_model', 'blazepose', 'What looks for people: the BlazePose detector, or the description of a '
              'model of your own that gives boxes (docs/own_models.md).', choices=('blazepose',), or_file='.yaml'),
    Parameter('runtime', 'auto', 'What computes the networks: auto takes the first that can be used of TensorRT, ONNX '
              'Runtime on CUDA, and ONNX Runtime on the CPU (docs/engines.md).', choices=RUNTIMES),
    Parameter('precision', 'auto', 'Of TensorRT engines: auto takes fp16, or where that fails the check against the '
              'CPU, mixed, then fp32.', choices=PRECISIONS),
    Parameter('build_while_running', True, 'While a TensorRT engine is built (minutes, once), work on ONNX Runtime; '
              'false drops the images until then.'),
    Parameter('threads', 0, 'Processor threads per network on the CPU; 0 chooses.', low=0, high=64),
    # Input
    Parameter('image_transport', 'raw', 'raw reads the topic image, compressed reads image/compressed (JPEG, PNG).',
              choices=('raw', 'compressed')),
    Parameter('image_reliability', 'best_effort', 'QoS of the image subscription; best_effort accepts every publisher.',
              choices=('best_effort', 'reliable')),
    Parameter('rectification', 'auto', 'Whether the images are rectified, so that P of camera_info holds instead of K '
              'and D; auto: they are when the last part of the topic contains "rect".',
              choices=('auto', 'raw', 'rectified')),
    Parameter('max_pixels', MAX_PIXELS, 'Larger images are refused.', 'px', 1, 1_000_000_000),
    Parameter('camera_info_timeout', 5.0, 'Images without camera_info are reported after this time.', 's', 0.0, 3600.0),
    # Finding people
    _of(DetectSettings, 'search_period', 'Frames over which a search of the whole image for new people is spread; '
        'near the camera they are seen after half of them.',
        'frames', 1, 1000),
    _of(DetectSettings, 'min_person_height', 'Smallest person to find, as a share of the image height; half of it '
        'makes the search four times as dear.', '', 0.05, 1.0),
    _of(DetectSettings, 'max_people', 'People followed at most; each costs one run of the landmark network per frame.',
        '', 1, 100),
    _of(DetectSettings, 'detection_threshold', 'Score from which a find of the search is looked at closely.', '', 0.01,
        0.99),
    _of(DetectSettings, 'presence_threshold', 'Certainty of the landmark model from which somebody new is a person.',
        '', 0.0, 1.0),
    _of(DetectSettings, 'confidence_threshold', 'Mean confidence of the joints in view from which somebody new is a '
        'person.', '', 0.0, 1.0),
    _of(DetectSettings, 'keep_presence', 'The same certainty for somebody who is followed already: at most '
        'presence_threshold.', '', 0.0, 1.0),
    _of(DetectSettings, 'keep_confidence', 'The same confidence for somebody who is followed already: at most '
        'confidence_threshold.', '', 0.0, 1.0),
    # Following people
    _of(TrackSettings, 'confirm_frames', 'Sightings before a person counts as TRACKED.', 'frames', 1, 100),
    _of(TrackSettings, 'max_lost_s', 'A person out of sight keeps the id for this time.', 's', 0.0, 60.0),
    _of(TrackSettings, 'swap_guard', 'Correct left and right where the detector exchanges them.'),
    # Size and place: one camera alone cannot tell a tall person far away from a small one near by
    Parameter('stature', 0.0, 'Stature of everybody in view, where it is known; 0: it is not.', 'm', 0.0, 2.5),
    Parameter('ground_source', 'none', 'Where the floor under the camera is known from: parameters (camera_height, '
              'camera_pitch, camera_roll) for a camera at a fixed place, tf for any other. With a floor, people whose '
              'feet are in view are placed on it, and their statures are learned.', choices=GROUND_SOURCES),
    Parameter('camera_height', 0.0, 'Height of the camera above the floor, with ground_source parameters.', 'm', 0.0,
              50.0),
    Parameter('camera_pitch', 0.0, 'Pitch of the camera as in its URDF (REP-103): 0 looks level, positive looks down.',
              'deg', -90.0, 90.0),
    Parameter('camera_roll', 0.0, 'Roll of the camera as in its URDF (REP-103): positive leans to the right, so that '
              'things in the image lean to the left.', 'deg', -180.0, 180.0),
    Parameter('ground_frame', 'base_footprint', 'Frame whose plane z = 0 is the floor, with ground_source tf; asked at '
              'the stamp of each image.'),
    Parameter('ground_tilt_sigma', 0.6, 'How exactly the tilt of the floor against the camera is known (one standard '
              'deviation).', 'deg', 0.01, 45.0),
    Parameter('ground_height_sigma', 0.02, 'How exactly the height of the camera is known (one standard deviation).',
              'm', 0.001, 5.0),
    _of(RefineSettings, 'smoothing', 'Publish smoothed joints; false publishes them as measured.'),
    _of(RefineSettings, 'acceleration', 'How hard joints accelerate (one standard deviation): more follows fast motion '
        'closer, less is smoother.', 'm/s^2', 0.1, 1000.0),
)

VIDEO = (
    Parameter('video', '', 'Video file, folder of images (in the order of their names), or number of a webcam.',
              fixed=True),
    Parameter('calibration', '', 'File with the calibration of the camera (docs/calibration.md).', fixed=True),
    Parameter('camera_name', '', 'Which camera of the calibration; empty where it has only one.', fixed=True),
    Parameter('frame_id', 'camera', 'Optical frame of the images.', fixed=True),
    Parameter('rate', 0.0, 'Frames per second; 0 takes that of the video (30 for a folder).', 'Hz', 0.0, 1000.0,
              fixed=True),
    Parameter('pace', 'realtime', 'realtime, or consumed: each frame waits until people came for the one before.',
              choices=('realtime', 'consumed'), fixed=True),
    Parameter('consume_timeout', 5.0, 'With pace consumed, a frame without people is given up after this time.', 's',
              0.1, 600.0, fixed=True),
    Parameter('loop', False, 'Start again at the end; the node ends otherwise.', fixed=True),
    Parameter('image_transport', 'raw', 'raw publishes image, compressed publishes image/compressed (JPEG).',
              choices=('raw', 'compressed'), fixed=True),
    Parameter('wait_for_subscriber', 10.0, 'Waits for a subscriber for at most this time before the first frame.', 's',
              0.0, 3600.0, fixed=True),
)

NODES: dict[str, tuple[Parameter, ...]] = {'mono_node': MONO, 'video_node': VIDEO}


def check_overrides(table: Sequence[Parameter], overrides: Mapping[str, Any], declared: Sequence[str] = ()) -> None:
    """Raise ParameterError for what is set but not in the table (nor declared by rclpy), or set to a bad value.

    rclpy ignores unknown keys without a word; here a misspelt one stops the node, with the closest known name.
    """
    known = {parameter.name: parameter for parameter in table}
    for name, value in overrides.items():
        if name in known:
            known[name].check(value)
        elif name not in declared and not name.startswith('qos_overrides.'):
            close = difflib.get_close_matches(name, [*known, *declared], n=1, cutoff=0.5)
            hint = f'did you mean {close[0]}?' if close else f'known are: {", ".join(known)}'
            raise ParameterError(f'there is no parameter {name}: {hint}')


def settings_of(kind: type[S], table: Sequence[Parameter], values: Mapping[str, Value]) -> S:
    """Return the settings that the values of a table say. Raises ValueError for values that do not go together."""
    return kind(**{parameter.name: values[parameter.name] for parameter in table if parameter.settings is kind})


def yaml_text(nodes: Mapping[str, Sequence[Parameter]]) -> str:
    """Return a parameter file with every default, commented. It holds in any namespace."""
    lines = ['# All parameters and their defaults. Made by: python -m pose3d_ros.ros.params > config/mono.yaml']
    for node, table in nodes.items():
        lines += ['', f'/**/{node}:', '  ros__parameters:']
        for parameter in table:
            notes = [note for note in (parameter.allowed, parameter.unit) if note]
            lines.append(f'    # {parameter.description}' + (f' [{" ".join(notes)}]' if notes else ''))
            lines.append(f'    {parameter.name}: {_yaml_value(parameter.default)}')
    return '\n'.join(lines) + '\n'


def markdown_text(nodes: Mapping[str, Sequence[Parameter]]) -> str:
    """Return the documentation of all parameters."""
    lines = ['# Parameters', '', 'Made by: `python -m pose3d_ros.ros.params --markdown > docs/parameters.md`', '',
             'Set them in a YAML file (config/mono.yaml has all of them) or with `-p name:=value`. A name that does',
             'not exist, or a value that is not allowed, stops the node at its start. All can be set while the node is',
             'unconfigured, except those marked (start), which are read once.']
    for node, table in nodes.items():
        lines += ['', f'## {node}', '',
                  '| parameter | default | allowed | unit | description |', '|---|---|---|---|---|']
        for parameter in table:
            allowed = parameter.allowed.replace('|', '\\|')
            start = ' (start)' if parameter.fixed else ''
            lines.append(f'| `{parameter.name}`{start} | {_yaml_value(parameter.default)} | {allowed} | '
                         f'{parameter.unit} | {parameter.description} |')
    return '\n'.join(lines) + '\n'


def _yaml_value(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else repr(value)


if __name__ == '__main__':
    print(markdown_text(NODES) if '--markdown' in sys.argv else yaml_text(NODES), end='')
