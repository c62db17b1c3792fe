"""One camera to 3D people.

ros2 launch pose3d_ros mono.launch.py image:=/camera/image_raw               a camera that is running already
ros2 launch pose3d_ros mono.launch.py video:=walk.mp4 calibration:=cam.yaml rviz:=true      no camera at hand

camera_info is read beside the image (/camera/camera_info above). An argument that is left empty leaves the decision to
the params_file.
"""

from __future__ import annotations

import os
from math import pi
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory('pose3d_ros')) / 'config'
VIDEO_FRAME = 'camera'  # optical frame: video_node's parameter frame_id, when nobody sets it
BOOL = ('true', 'false', 'True', 'False')

# name: (default, description[, choices])
ARGUMENTS: dict[str, tuple] = {
    'namespace': ('', 'namespace of all nodes, and with it of people, people_2d, markers and image_annotated'),
    'params_file': (str(CONFIG / 'mono.yaml'), 'YAML file with the parameters of the nodes'),
    'image': ('image', 'image topic; camera_info is expected beside it'),
    'image_transport': ('', 'raw, or compressed (reads <image>/compressed)', ('', 'raw', 'compressed')),
    'detector_model': ('', '2D joints: lite, full, heavy, or the .yaml of a model of your own'),
    'search_model': ('', 'search for people: blazepose, or the .yaml of a model of your own'),
    'runtime': ('', 'what computes the networks', ('', 'auto', 'cpu', 'cuda', 'tensorrt')),
    'use_sim_time': ('', 'take the time from /clock (simulation, bags): true or false', ('', *BOOL)),
    'autostart': ('', 'configure and activate at once (true), or wait for a lifecycle manager (false)', ('', *BOOL)),
    'log_level': ('info', 'debug, info, warn, error or fatal', ('debug', 'info', 'warn', 'error', 'fatal')),
    'rviz': ('false', 'open RViz on the result', BOOL),
    'fixed_frame': ('camera_link', 'frame in which RViz shows the people: one that TF connects with the camera'),
    'video': ('', 'video file, folder of images or webcam number to play as the camera; everything ends with it'),
    'calibration': ('', 'calibration of the camera that took the video (docs/calibration.md)'),
    'camera_name': ('', 'which camera of the calibration file, when it holds several'),
    'loop': ('', 'play the video again and again', ('', *BOOL)),
}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, and the nodes that depend on them."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description,
                              choices=list(*choices) or None)
        for name, (default, description, *choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, *room_for_images(), OpaqueFunction(function=start_nodes)])


def room_for_images() -> list[SetEnvironmentVariable]:
    """Return what gives Fast DDS shared memory for whole images, where the user has not set up Fast DDS already."""
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # of Fast DDS 2 (Humble, Jazzy), and 3
    if any(name in os.environ for name in names):
        return []
    return [SetEnvironmentVariable(name, str(CONFIG / 'fastdds.xml')) for name in names]


def start_nodes(context: LaunchContext) -> list:
    """Return the actions for the values that the arguments have in this launch."""
    chosen = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(chosen['params_file']).is_file():
        raise RuntimeError(f"params_file:={chosen['params_file']} is not a file")
    common = {
        'package': 'pose3d_ros',
        'namespace': chosen['namespace'],
        'output': 'screen',
        'ros_arguments': ['--log-level', chosen['log_level']],
    }
    image = ('image', chosen['image'])
    time = decided(chosen, use_sim_time=bool)
    transport = decided(chosen, image_transport=str)
    actions = [Node(
        name='mono_node', executable='mono_node', remappings=[image],
        parameters=[chosen['params_file'], *time, *transport, *decided(
            chosen, autostart=bool, detector_model=str, search_model=str, runtime=str)],
        **common,
    )]
    if chosen['video']:
        source = decided(chosen, video=str, calibration=str, camera_name=str, loop=bool)
        actions.append(Node(
            name='video_node', executable='video_node', remappings=[image], on_exit=Shutdown(reason='the video ended'),
            parameters=[chosen['params_file'], *transport, *source],
            **common,
        ))
    elif chosen['calibration']:
        actions.append(LogInfo(msg='calibration:= is for video:= only; a camera brings its own camera_info'))
    if chosen['rviz'].lower() == 'true':
        actions += show(chosen, time)
    return actions


def show(chosen: dict[str, str], time: list) -> list:
    """Return RViz, and for a video (which nobody else connects) the way from camera_link to the optical frame."""
    rviz = Node(
        package='rviz2', executable='rviz2', name='rviz', namespace=chosen['namespace'], output='log',
        arguments=['-d', str(CONFIG / 'mono.rviz'), '-f', chosen['fixed_frame']], parameters=time,
        remappings=[('/markers', 'markers'), ('/image_annotated', 'image_annotated')],
    )
    if not chosen['video']:
        return [rviz]
    quarter = str(-pi / 2)
    return [rviz, Node(
        package='tf2_ros', executable='static_transform_publisher', namespace=chosen['namespace'], output='log',
        arguments=['--frame-id', 'camera_link', '--child-frame-id', VIDEO_FRAME, '--roll', quarter, '--yaw', quarter],
    )]


def decided(chosen: dict[str, str], **types: type) -> list[dict[str, ParameterValue]]:
    """Return the named arguments as parameters of the given types, without those left empty."""
    values = {name: ParameterValue(LaunchConfiguration(name), value_type=kind)
              for name, kind in types.items() if chosen[name]}
    return [values] if values else []
