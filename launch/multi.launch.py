"""Several cameras to one set of people in a common frame.

ros2 launch pose3d_ros multi.launch.py cameras:="[front, left, right]" image:=image_raw       places of the cameras: TF
ros2 launch pose3d_ros multi.launch.py cameras:="[front, left]" calibration:=cameras.yaml     ... from a file
ros2 launch pose3d_ros multi.launch.py cameras:="[front, left]" nodes:=false                  mono nodes run elsewhere
ros2 launch pose3d_ros multi.launch.py cameras:="[a, b]" videos:="[a.mp4, b.mp4]" calibration:=cameras.yaml rviz:=true

Each camera has a namespace of its name, with its image, camera_info, people and people_2d; the fused people are beside
these namespaces. An argument that is left empty leaves the decision to the params_file.
"""

from __future__ import annotations

import time

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction, Shutdown
from launch_ros.actions import Node

from pose3d_ros.ros.in_step import FUSION_IN_STEP, VIDEO_IN_STEP
from pose3d_ros.ros.launching import (
    BOOL,
    COMMON,
    CONFIG,
    decided,
    declare,
    is_true,
    items_in,
    names_in,
    own_node,
    room_for_images,
    values_of,
)

COMMON_FRAME = 'map'  # fusion_node's parameter frame, when nobody sets it
LEAD_S = 5.0          # until videos begin: the nodes come up meanwhile

# name: (default, description[, choices]); None: must be given
ARGUMENTS: dict[str, tuple] = {
    **COMMON,
    'cameras': (None, 'names of the cameras: [front, left, right]'),
    'params_file': (str(CONFIG / 'multi.yaml'), 'YAML file with the parameters of the nodes'),
    'image': ('image', 'image topic in the namespace of each camera, or with {camera} in a full name: '
              '/rig/{camera}/image_raw; camera_info is expected beside it'),
    'nodes': ('true', 'false: start fusion_node only; the nodes of the cameras run elsewhere', BOOL),
    'one_process': ('false', 'true: one multi_node for all cameras, which shares the networks, instead of a mono_node '
                    'for each', BOOL),
    'calibration': ('', 'file with the places of the cameras, used instead of TF (docs/calibration.md)'),
    'frame': ('', 'common frame of the fused people'),
    'videos': ('', 'files to play as the cameras, in their order: [front.mp4, left.mp4]; needs calibration. '
               'They play in step, slowly where the machine is slow; everything ends with the shortest'),
}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, and the nodes that depend on them."""
    return LaunchDescription([*declare(ARGUMENTS), *room_for_images(), OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> list:
    """Return the actions for the values that the arguments have in this launch."""
    chosen = values_of(context, ARGUMENTS)
    cameras = names_in('cameras', chosen['cameras'])
    images = {camera: topic_of(chosen['image'], camera) for camera in cameras}
    clock = decided(chosen, use_sim_time=bool)
    start = decided(chosen, autostart=bool)
    actions = [own_node('fusion_node', chosen, [
        {'cameras': cameras}, *clock, *start, *decided(chosen, frame=str, calibration=str),
        *([{'extrinsics_source': 'file'}] if chosen['calibration'] else []),
        *([FUSION_IN_STEP] if chosen['videos'] else [])])]
    if is_true(chosen['nodes']):
        networks = [*clock, *start, *decided(chosen, image_transport=str, detector_model=str, search_model=str,
                                             lifter=str, runtime=str)]
        if is_true(chosen['one_process']):
            actions.append(own_node('multi_node', chosen, [{'cameras': cameras}, *networks], remappings=[
                (f'{camera}/image', image if image.startswith('/') else f'{camera}/{image}')
                for camera, image in images.items()]))
        else:
            actions += [own_node('mono_node', chosen, networks, camera, remappings=[('image', images[camera])])
                        for camera in cameras]
    actions += play(chosen, images)
    if is_true(chosen['rviz']):
        actions.append(Node(
            package='rviz2', executable='rviz2', name='rviz', namespace=chosen['namespace'], output='log',
            arguments=['-d', str(CONFIG / 'multi.rviz'), '-f', chosen['frame'] or COMMON_FRAME], parameters=clock,
            remappings=[('/markers', 'markers')]))
    return actions


def topic_of(image: str, camera: str) -> str:
    """Return the image topic of a camera, as seen from its namespace. Raises RuntimeError for one topic for all."""
    if image.startswith('/') and '{camera}' not in image:
        raise RuntimeError(f'image:={image} is the same topic for every camera: write {{camera}} where its name stands')
    return image.removeprefix('{camera}/').replace('{camera}', camera)


def play(chosen: dict[str, str], images: dict[str, str]) -> list:
    """Return the nodes that play videos in step, none without videos:=. Raises RuntimeError for what does not fit."""
    videos = items_in(chosen['videos'])
    if not videos:
        return []
    if len(videos) != len(images):
        raise RuntimeError(f'videos:= names {len(videos)} files for {len(images)} cameras; give one for each, in order')
    if not chosen['calibration']:
        raise RuntimeError('videos:= needs calibration:=, the file with the lenses and places of the cameras')
    begin = {'start_at': time.time() + LEAD_S, **VIDEO_IN_STEP}
    fused = '/' + f"{chosen['namespace'].strip('/')}/people".lstrip('/')
    shared = decided(chosen, image_transport=str, calibration=str, loop=bool)
    return [own_node(
        'video_node', chosen,
        [*shared, {'video': video, 'camera_name': camera, 'frame_id': camera, **begin}], camera,
        remappings=[('image', image), ('people', fused)], on_exit=Shutdown(reason='a video ended'))
        for video, (camera, image) in zip(videos, images.items())]
