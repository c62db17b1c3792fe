"""One camera to 3D people.

ros2 launch pose3d_ros mono.launch.py image:=/camera/image_raw               a camera that is running already
ros2 launch pose3d_ros mono.launch.py video:=walk.mp4 calibration:=cam.yaml rviz:=true      no camera at hand

camera_info is read beside the image (/camera/camera_info above). An argument that is left empty leaves the decision to
the params_file.
"""

from __future__ import annotations

from math import pi

from launch import LaunchContext, LaunchDescription
from launch.actions import LogInfo, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from pose3d_ros.ros.launching import COMMON, CONFIG, decided, declare, is_true, own_node, room_for_images, values_of

VIDEO_FRAME = 'camera'  # optical frame: video_node's parameter frame_id, when nobody sets it

# name: (default, description[, choices])
ARGUMENTS: dict[str, tuple] = {
    **COMMON,
    'params_file': (str(CONFIG / 'mono.yaml'), 'YAML file with the parameters of the nodes'),
    'image': ('image', 'image topic; camera_info is expected beside it'),
    'fixed_frame': ('camera_link', 'frame in which RViz shows the people: one that TF connects with the camera'),
    'video': ('', 'video file, folder of images or webcam number to play as the camera; everything ends with it'),
    'calibration': ('', 'calibration of the camera that took the video (docs/calibration.md)'),
    'camera_name': ('', 'which camera of the calibration file, when it holds several'),
}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, and the nodes that depend on them."""
    return LaunchDescription([*declare(ARGUMENTS), *room_for_images(), OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> list:
    """Return the actions for the values that the arguments have in this launch."""
    chosen = values_of(context, ARGUMENTS)
    image = ('image', chosen['image'])
    time = decided(chosen, use_sim_time=bool)
    transport = decided(chosen, image_transport=str)
    actions = [own_node('mono_node', chosen, [*time, *transport, *decided(
        chosen, autostart=bool, detector_model=str, search_model=str, lifter=str, runtime=str)],
        remappings=[image])]
    if chosen['video']:
        source = decided(chosen, video=str, calibration=str, camera_name=str, loop=bool)
        actions.append(own_node('video_node', chosen, [*transport, *source], remappings=[image],
                                on_exit=Shutdown(reason='the video ended')))
    elif chosen['calibration']:
        actions.append(LogInfo(msg='calibration:= is for video:= only; a camera brings its own camera_info'))
    if is_true(chosen['rviz']):
        actions += show(chosen, time)
    return actions


def show(chosen: dict[str, str], time: list) -> list:
    """Return RViz, and for a video (which nobody else connects) the way from camera_link to the optical frame."""
    rviz = Node(
        package='rviz2', executable='rviz2', name='rviz', namespace=chosen['namespace'], output='log',
        arguments=['-d', str(CONFIG / 'mono.rviz'), '-f', chosen['fixed_frame']], parameters=time,
        remappings=[('/markers', 'markers'), ('/mesh', 'mesh'), ('/image_annotated', 'image_annotated')],
    )
    if not chosen['video']:
        return [rviz]
    quarter = str(-pi / 2)
    return [rviz, Node(
        package='tf2_ros', executable='static_transform_publisher', namespace=chosen['namespace'], output='log',
        arguments=['--frame-id', 'camera_link', '--child-frame-id', VIDEO_FRAME, '--roll', quarter, '--yaw', quarter],
    )]
