"""A lifter of few nodes that wants an even past, gives bodies, and answers with what it was shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from small_networks import network

from pose3d_ros.lift import INPUTS
from pose3d_ros.skeleton import HUMAN17

FRAMES, STEP_S = 9, 1 / 30
SHA256 = 'c0ffee00' * 8
SHOWN = 'left_shoulder'    # whose rays and confidence come back
TURNS = Rotation.random(24, random_state=1).as_matrix()
_INPUTS = {'rays': 'float[N,9,13,2] rays', 'confidence': 'float[N,9,13] confidence', 'stature': 'float[N,2] stature',
           'age': 'float[N,9] age', 'up': 'float[N,3] up', 'landmarks': 'float[N,1] landmarks'}
_OUTPUTS = ('float[N,17,3] relative, float[N,3] root, float[N,17,3,3] covariance, float[N,24,3,3] rotations, '
            'float[N,10] shape, float[N,1] scale, float[N,3] body_root')
_BODY = """
    ray4 = Gather<axis=2>(rays, joint)
    ray = Squeeze(ray4, two)
    sure = Gather<axis=2>(confidence, joint)
    both = Concat<axis=2>(ray, sure)
    relative = Pad(both, padding)
    ears_all = Gather<axis=2>(confidence, ears)
    ears_now = Gather<axis=1>(ears_all, zero)
    ears2 = Squeeze(ears_now, two)
    one_or_nan = Div(ears2, ears2)
    place = Mul(one_or_nan, there)
    root = Add(place, nothing)
    column = Unsqueeze(relative, minus_one)
    none = Mul(column, nothing3)
    covariance = Add(none, spread)
    tall = Gather<axis=1>(stature, zero)
    none1 = Mul(tall, nothing1)
    none4 = Unsqueeze(none1, two_three)
    rotations = Add(none4, turns)
    shape = Concat<axis=1>(stature, stature, stature, stature, stature)
    scale = Identity(tall)
    body_root = Add(root, aside)"""


def write_echo(path: Path, inputs: tuple[str, ...] = ('rays', 'confidence', 'stature'), **metadata: str) -> Path:
    """Write the file. Joint t < 9 of a person is root + (x, y, confidence) of SHOWN in frame t, the others are at the
    root, (0, 0, 3) m; NaN where the ears are not seen now. The body is 0.1 m to the right of it, turned as TURNS says,
    its scale the stature. Metadata of the value '' are left out.
    """
    turns = TURNS.copy()
    turns[:, :, 0] *= 1.001    # as half precision leaves them
    lacking = {} if 'stature' in inputs else {'stature': np.array([[1.7, 0.1]])}
    path.write_bytes(network(_BODY, lacking | {
        'joint': np.array([INPUTS.index(SHOWN)]), 'ears': np.array([INPUTS.index('ears')]), 'zero': np.array([0]),
        'two': np.array([2]), 'two_three': np.array([2, 3]), 'minus_one': np.array([-1]),
        'padding': np.array([0, 0, 0, 0, 8, 0]), 'there': np.array([[0.0, 0.0, 3.0]]), 'nothing': np.zeros((1, 3)),
        'nothing1': np.zeros((1, 1)), 'nothing3': np.zeros((1, 1, 1, 3)), 'spread': 0.01 * np.eye(3)[None, None],
        'turns': turns[None], 'aside': np.array([[0.1, 0.0, 0.0]])},
        ', '.join(_INPUTS[name] for name in inputs), _OUTPUTS, {name: value for name, value in {
            'input_joints': json.dumps(INPUTS), 'output_joints': json.dumps(HUMAN17.joints), 'stature': '[1.7, 0.1]',
            'step_s': str(STEP_S), 'frames': str(FRAMES), 'body_model': 'mannequin', 'body_model_sha256': SHA256,
            **metadata}.items() if value}))
    return path
