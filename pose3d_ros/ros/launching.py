"""What the launch files of this package share: arguments, and how values become nodes. Nothing else imports this."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from pose3d_ros.ros.params import Parameter, ParameterError

CONFIG = Path(get_package_share_directory('pose3d_ros')) / 'config'
BOOL = ('true', 'false', 'True', 'False')

# name: (default, description[, choices]). A default of None: the argument must be given.
COMMON: dict[str, tuple] = {
    'namespace': ('', 'namespace of all nodes and of what they publish'),
    'image_transport': ('', 'raw, or compressed (reads <image>/compressed)', ('', 'raw', 'compressed')),
    'detector_model': ('', '2D joints: lite, full, heavy, or the .yaml of a model of your own'),
    'search_model': ('', 'search for people: blazepose, or the .yaml of a model of your own'),
    'lifter': ('', 'lifts 2D joints to 3D: window, parts, posenet3d, or an .onnx file of pose3d adapt'),
    'runtime': ('', 'what computes the networks', ('', 'auto', 'cpu', 'cuda', 'tensorrt')),
    'use_sim_time': ('', 'take the time from /clock (simulation, bags): true or false', ('', *BOOL)),
    'autostart': ('', 'configure and activate at once (true), or wait for a lifecycle manager (false)', ('', *BOOL)),
    'log_level': ('info', 'debug, info, warn, error or fatal', ('debug', 'info', 'warn', 'error', 'fatal')),
    'rviz': ('false', 'open RViz on the result', BOOL),
    'loop': ('', 'play the video again and again', ('', *BOOL)),
}


def declare(arguments: Mapping[str, tuple]) -> list[DeclareLaunchArgument]:
    """Return the declarations of arguments as COMMON has them."""
    return [DeclareLaunchArgument(name, default_value=default, description=description, choices=list(*choices) or None)
            for name, (default, description, *choices) in arguments.items()]


def room_for_images() -> list[SetEnvironmentVariable]:
    """Return what gives Fast DDS shared memory for whole images, where the user has not set up Fast DDS already."""
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # of Fast DDS 2 (Humble, Jazzy), and 3
    if any(name in os.environ for name in names):
        return []
    return [SetEnvironmentVariable(name, str(CONFIG / 'fastdds.xml')) for name in names]


def values_of(context: LaunchContext, arguments: Mapping[str, tuple]) -> dict[str, str]:
    """Return what the arguments are in this launch. Raises RuntimeError for a params_file that does not exist."""
    chosen = {name: LaunchConfiguration(name).perform(context) for name in arguments}
    if not Path(chosen['params_file']).is_file():
        raise RuntimeError(f"params_file:={chosen['params_file']} is not a file")
    return chosen


def decided(chosen: Mapping[str, str], **types: type) -> list[dict[str, ParameterValue]]:
    """Return the named arguments as parameters of the given types, without those left empty."""
    values = {name: ParameterValue(LaunchConfiguration(name), value_type=kind)
              for name, kind in types.items() if chosen[name]}
    return [values] if values else []


def is_true(text: str) -> bool:
    """Tell whether one of BOOL says yes."""
    return text.lower() == 'true'


def names_in(argument: str, text: str) -> list[str]:
    """Return the names in '[front, left]' or 'front,left'. Raises RuntimeError for names that topics cannot have."""
    names = items_in(text)
    try:
        Parameter(argument, ['name'], '').check(names)
    except ParameterError as error:
        raise RuntimeError(f'{argument}:={text}: {error}') from error
    return names


def items_in(text: str) -> list[str]:
    """Return what stands between the commas of '[one, two]' or 'one,two'."""
    items = (item.strip().strip('\'"') for item in text.strip().removeprefix('[').removesuffix(']').split(','))
    return [item for item in items if item]


def own_node(name: str, chosen: Mapping[str, str], parameters: Sequence[Any], camera: str = '', **more: Any) -> Node:
    """Return a node of this package. parameters: on top of params_file. camera: the namespace inside that of all."""
    return Node(
        package='pose3d_ros', executable=name, name=name, output='screen',
        namespace='/'.join(part for part in (chosen['namespace'].rstrip('/'), camera) if part),
        parameters=[chosen['params_file'], *parameters], ros_arguments=['--log-level', chosen['log_level']], **more)
