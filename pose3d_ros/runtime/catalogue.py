"""What `pose3d fetch` can get: packages of public registries, the files wanted out of them, and their SHA-256."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from pose3d_ros.skeleton import BLAZEPOSE33

# Raise it when the converter's output changes: what is cached then counts as missing.
CONVERTER_VERSION = '2'

_MODEL_LICENCE = 'Apache-2.0, Google LLC (BlazePose GHUM, MediaPipe)'


@dataclass(frozen=True)
class Package:
    """One downloadable archive. manager: 'pip' (a wheel: zip) or 'npm' (a gzipped tar). megabytes: for the progress."""

    manager: str
    name: str
    version: str
    megabytes: int

    def __str__(self) -> str:
        return f'{self.name} {self.version}'


@dataclass(frozen=True)
class Member:
    """One file inside an archive, by its exact name; size in bytes."""

    path: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.path.rsplit('/', 1)[-1]


@dataclass(frozen=True)
class Entry:
    """Something that can be fetched.

    target: place in the cache, a file (a network, which is converted to ONNX) or a folder (files taken as they are).
    outputs: of a network, the source's name -> the name in the ONNX file; empty for a folder. metadata: goes into it.
    """

    name: str
    package: Package
    members: tuple[Member, ...]
    target: str
    licence: str
    outputs: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The folder in the cache where the entry's files lie."""
        return self.target.rsplit('/', 1)[0] if self.outputs else self.target

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the entry, relative to the cache."""
        sources = tuple(f'{self.folder}/{member.name}' for member in self.members)
        return (self.target, *sources) if self.outputs else sources


_MEDIAPIPE = Package('pip', 'mediapipe', '0.10.14', 36)
_MEDIAPIPE_POSE = Package('npm', '@mediapipe/pose', '0.5.1675469404', 41)
_POSE2SIM = Package('pip', 'pose2sim', '0.10.49', 51)
_SAMPLE = 'Pose2Sim/Demo_SinglePerson'


# How far an engine may be from the network as it is, see runtime/check.py: x, y and z in px of the crop, of people who
# are there; probabilities; and of the search only what it finds. Half precision takes up to half of it.
_LANDMARK_TOLERANCES = {
    'landmarks': [
        {'every': 5, 'take': [0, 1], 'absolute': 1.0, 'where': 'presence', 'over': 0.5, 'what': 'x, y', 'unit': 'px'},
        {'every': 5, 'take': [2], 'absolute': 4.0, 'where': 'presence', 'over': 0.5, 'what': 'z', 'unit': 'px'},
        {'every': 5, 'take': [3, 4], 'absolute': 0.06, 'measure': 'sigmoid', 'where': 'presence', 'over': 0.5,
         'what': 'visibility, presence'}],
    'presence': {'absolute': 0.02},
    'heatmap': {'absolute': 0.06, 'measure': 'sigmoid', 'where': 'presence', 'over': 0.5},
    'world': {'absolute': 0.03, 'where': 'presence', 'over': 0.5, 'unit': 'm'}}
_DETECTION_TOLERANCES = {
    'boxes': {'absolute': 0.5, 'where': 'scores', 'over': 0.0, 'what': 'of finds', 'unit': 'px'},
    'scores': {'absolute': 0.02, 'measure': 'sigmoid'}}


def _landmark(size: str, package: Package, member: Member) -> Entry:
    return Entry(
        f'pose_landmark_{size}', package, (member,), f'models/pose_landmark_{size}.onnx', _MODEL_LICENCE,
        outputs={'Identity': 'landmarks', 'Identity_1': 'presence', 'Identity_3': 'heatmap', 'Identity_4': 'world'},
        # 33 named landmarks, two that give the next region of interest, four that are not used.
        metadata={'skeleton': BLAZEPOSE33.name, 'output_joints': json.dumps(BLAZEPOSE33.joints),
                  'input_size': '256x256', 'input_channels': 'RGB', 'input_range': '0..1',
                  'tolerances': json.dumps(_LANDMARK_TOLERANCES)})


_ENTRIES = (
    Entry(
        'pose_detection', _MEDIAPIPE,
        (Member('mediapipe/modules/pose_detection/pose_detection.tflite',
                '9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c', 2959046),),
        'models/pose_detection.onnx', _MODEL_LICENCE,
        outputs={'Identity': 'boxes', 'Identity_1': 'scores'},
        metadata={'input_size': '224x224', 'input_channels': 'RGB', 'input_range': '-1..1',
                  'tolerances': json.dumps(_DETECTION_TOLERANCES)}),
    _landmark('full', _MEDIAPIPE, Member(
        'mediapipe/modules/pose_landmark/pose_landmark_full.tflite',
        'e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f', 6440512)),
    _landmark('lite', _MEDIAPIPE_POSE, Member(
        'package/pose_landmark_lite.tflite',
        'f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61', 2819824)),
    _landmark('heavy', _MEDIAPIPE_POSE, Member(
        'package/pose_landmark_heavy.tflite',
        '59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe', 27709200)),
    Entry(
        'sample', _POSE2SIM,
        (Member(f'{_SAMPLE}/videos/cam01.mp4',
                'cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a', 387775),
         Member(f'{_SAMPLE}/videos/cam02.mp4',
                '94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442', 540548),
         Member(f'{_SAMPLE}/videos/cam03.mp4',
                'b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca', 1709101),
         Member(f'{_SAMPLE}/videos/cam04.mp4',
                'b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7', 1772999),
         Member(f'{_SAMPLE}/calibration/Calib.qca.txt',
                'fd90e4bbae3278ef1dc0cdd42a34ee06bf88286f628a02c00a29407aa39e34c5', 4843)),
        'sample', 'BSD-3-Clause, the authors of Pose2Sim'),
)

CATALOGUE = {entry.name: entry for entry in _ENTRIES}
DEFAULT = ('pose_detection', 'pose_landmark_full', 'sample')


def full_name(name: str) -> str:
    """Return the catalogue's name for a name as people type it: 'full' is 'pose_landmark_full'."""
    for prefix in ('', 'pose_', 'pose_landmark_'):
        if prefix + name in CATALOGUE:
            return prefix + name
    raise ValueError(f'nothing is called {name!r}; known: {", ".join(CATALOGUE)}')
