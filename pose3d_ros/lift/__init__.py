"""From 2D joints to absolute 3D joints: what the lifter is shown, which lifters ship, and the stage that runs them."""

from pose3d_ros.lift.files import (
    ATTRIBUTES,
    BODY_OUTPUTS,
    DEFAULT_LIFTER,
    ENGINE_INPUTS,
    ENGINE_OUTPUTS,
    LIFTERS,
    REQUIRED_INPUTS,
    WINDOW,
    LiftModelError,
    lifter_file,
    lifter_name,
)
from pose3d_ros.lift.joints import (
    INFERRED_FROM,
    INPUTS,
    LEAST_CONFIDENCE,
    MADE_OF,
    MIDPOINTS,
    MIN_INPUTS,
    MIN_TORSO,
    OF_LANDMARKS,
    TORSO,
    enough_seen,
    input_points,
    input_rays,
    joint_states,
)
from pose3d_ros.lift.lifter import GIVEN_SIGMA, Lifted, Lifter

__all__ = [
    'ATTRIBUTES', 'BODY_OUTPUTS', 'DEFAULT_LIFTER', 'ENGINE_INPUTS', 'ENGINE_OUTPUTS', 'GIVEN_SIGMA', 'INFERRED_FROM',
    'INPUTS', 'LEAST_CONFIDENCE', 'LIFTERS', 'MADE_OF', 'MIDPOINTS', 'MIN_INPUTS', 'MIN_TORSO', 'OF_LANDMARKS',
    'REQUIRED_INPUTS', 'TORSO', 'WINDOW', 'LiftModelError', 'Lifted', 'Lifter', 'enough_seen', 'input_points',
    'input_rays', 'joint_states', 'lifter_file', 'lifter_name']
