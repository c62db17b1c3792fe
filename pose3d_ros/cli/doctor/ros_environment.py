"""ROS as this terminal sees it: distribution, Python packages, middleware, and the usual traps of its environment."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pose3d_ros.cli.doctor.findings import Finding, note, ok, problem
from pose3d_ros.cli.doctor.probe import ask, imports

RMEM_MAX = Path('/proc/sys/net/core/rmem_max')
SHARED_MEMORY = Path('/dev/shm')
INSTALLATIONS = Path('/opt/ros')
_IMAGE = 6_220_800              # bytes of 1920 x 1080 px, three colours
_LEAST_SHARED_MEMORY = 64 << 20  # bytes: the segments of config/fastdds.xml for two processes
_MOST_DOMAIN, _SAFE_DOMAIN = 232, 101
_TROUBLE_WITH_NUMPY = ('compiled using NumPy 1.x', '_ARRAY_API not found', 'numpy.core.multiarray failed to import')
_OPTIONAL = (('tf_transformations', 'tf-transformations'), ('sensor_msgs_py', 'sensor-msgs-py'))


def ros(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Look at ROS. environment: that of this process; another one for tests."""
    environment = os.environ if environment is None else environment
    modules = ['rclpy', 'pose3d_ros.msg', 'cv_bridge', 'tf2_ros', 'tf2_msgs.msg', *(module for module, _ in _OPTIONAL)]
    found = imports(modules)
    if 'error' in found['rclpy']:
        yield _without_ros(found['rclpy']['error'], environment)
        return
    distribution = environment.get('ROS_DISTRO', '')
    yield ok('ROS 2', f'{distribution or "from Python wheels (no ROS_DISTRO)"}, rclpy at '
                      f'{Path(found["rclpy"]["file"]).parent}')
    yield from paths(environment)
    yield _messages(found['pose3d_ros.msg'])
    yield from _middleware(environment)
    yield from domain(environment)
    yield from large_images(environment)
    yield _cv_bridge(found['cv_bridge'])
    yield tf(found['tf2_ros'], found['tf2_msgs.msg'])
    for module, package in _OPTIONAL:
        yield _optional(module, package, found[module])


def tf(tf2: Mapping[str, str], messages: Mapping[str, str]) -> Finding:
    """Say by what TF is read, from what the imports of tf2_ros and tf2_msgs.msg gave."""
    if 'error' not in tf2:
        return ok('TF', 'read by tf2_ros')
    cure = 'apt install ros-$ROS_DISTRO-tf2-ros-py'
    missing = tf2['error'].startswith('No module named')
    if 'error' in messages:
        return note('TF', f'cannot be used: neither tf2_ros ({tf2["error"]}) nor tf2_msgs ({messages["error"]}) can be '
                          'imported; places of cameras and the floor must come from files and parameters',
                    f"{cure} (in a checkout without ROS: 'make build')")
    if not missing:
        return note('TF', f'read by pose3d_ros itself, as tf2_ros cannot be imported: {tf2["error"]}',
                    cure.replace('install', 'install --reinstall'))
    return ok('TF', 'read by pose3d_ros itself (tf2_ros is not installed)')


def _optional(module: str, package: str, found: Mapping[str, str]) -> Finding:
    if 'error' not in found:
        return ok(module, 'installed')
    if found['error'].startswith('No module named'):
        return ok(module, 'not installed; pose3d_ros does without it')
    return note(module, f'cannot be imported: {found["error"]}', f'apt install --reinstall ros-$ROS_DISTRO-{package}')


def _without_ros(error: str, environment: Mapping[str, str]) -> Finding:
    installed = sorted(folder.name for folder in INSTALLATIONS.glob('*') if (folder / 'setup.bash').is_file())
    if environment.get('ROS_VERSION') == '1':
        return problem('ROS 2', 'the environment is that of ROS 1', 'open a new terminal and source ROS 2 there')
    installed_here = not error.startswith("No module named 'rclpy")
    if environment.get('RMW_IMPLEMENTATION') and environment['RMW_IMPLEMENTATION'] in error:
        return problem('ROS 2', f'rclpy cannot be imported: {error}', _rmw_cure(environment['RMW_IMPLEMENTATION']))
    if environment.get('ROS_DISTRO') or installed_here:
        made_for = [name for name in re.findall(r'python(3\.\d+)', environment.get('PYTHONPATH', ''))
                    if name != _this_python()]
        name = environment.get('ROS_DISTRO', 'an installation without ROS_DISTRO')
        if made_for:
            return problem('ROS 2', f'{name} is sourced, but made for Python {made_for[0]}; this '
                                    f'is {sys.executable} ({_this_python()})',
                           'use that Python: leave conda or the virtual environment, or make one with it and '
                           '--system-site-packages')
        return problem('ROS 2', f'{name} is sourced, but rclpy cannot be imported: {error}',
                       "source all of it (setup.bash), with its own Python first on the PATH")
    if installed:
        return note('ROS 2', f'{", ".join(installed)} is installed, but not sourced here',
                    f'. {INSTALLATIONS / installed[-1] / "setup.bash"}, and the setup.bash of your workspace')
    return note('ROS 2', 'not at hand; `pose3d run` and the library work without it, the nodes do not',
                "in a checkout: 'make build' and '. scripts/env.sh'; else source a ROS 2 installation")


def paths(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at where ROS searches."""
    prefixes = [prefix for prefix in environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix]
    if not prefixes:
        yield problem('AMENT_PREFIX_PATH', 'not set: ROS finds none of its packages, nodes do not start',
                      "source the setup.bash of ROS, or '. scripts/env.sh' in a checkout")
        return
    distributions = sorted({Path(prefix).name for prefix in prefixes if Path(prefix).parent == INSTALLATIONS})
    gone = [prefix for prefix in prefixes if not Path(prefix).is_dir()]
    if len(distributions) > 1:
        yield problem('AMENT_PREFIX_PATH', f'mixes {" and ".join(distributions)}',
                      'open a new terminal and source one distribution only (look into ~/.bashrc)')
    elif gone:
        yield note('AMENT_PREFIX_PATH', f'names {gone[0]}, which is not there',
                   'open a new terminal and source your workspace again')
    else:
        yield ok('AMENT_PREFIX_PATH', f'{len(prefixes)} folder{"s" if len(prefixes) > 1 else ""}, all there')
    others = sorted({name for name in re.findall(r'python(3\.\d+)', environment.get('PYTHONPATH', ''))
                     if name != _this_python()})
    if others:
        yield note('PYTHONPATH', f'names packages of Python {", ".join(others)}, but this is {_this_python()}',
                   'open a new terminal and source one installation only')


def _messages(found: Mapping[str, str]) -> Finding:
    if 'error' not in found:
        return ok('pose3d_ros.msg', 'built')
    if found['error'].startswith('No module named'):
        return problem('pose3d_ros.msg', 'the messages of this package are not built, or not sourced',
                       "colcon build --packages-select pose3d_ros && . install/setup.bash (a checkout: 'make build')")
    return problem('pose3d_ros.msg', f'built for something else: {found["error"]}',
                   'remove build/ and install/ of the workspace and build again with the ROS that is sourced now')


def _middleware(environment: Mapping[str, str]) -> Iterator[Finding]:
    reply = ask('rmw')
    wanted = environment.get('RMW_IMPLEMENTATION', '')
    told = next((said['rmw'] for said in reply.answers if 'rmw' in said), '')
    if not reply.failed:
        yield ok('RMW', f'{told}; a node can be made' + ('' if wanted else ' (RMW_IMPLEMENTATION is not set)'))
        return
    cure = 'look at RMW_IMPLEMENTATION, ROS_DOMAIN_ID and the file of FASTRTPS_DEFAULT_PROFILES_FILE'
    if wanted and wanted != told:
        cure = _rmw_cure(wanted)
    yield problem('RMW', f'no node can be made with {told or wanted or "the default middleware"}: {reply.failed}', cure)


def _rmw_cure(wanted: str) -> str:
    return f'apt install ros-$ROS_DISTRO-{wanted.replace("_", "-")}, or unset RMW_IMPLEMENTATION'


def domain(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at who can be talked to."""
    text = environment.get('ROS_DOMAIN_ID', '')
    if text and not (text.isdigit() and int(text) <= _MOST_DOMAIN):
        yield problem('ROS_DOMAIN_ID', f'is {text!r}', f'a whole number from 0 to {_SAFE_DOMAIN}')
    elif text and int(text) > _SAFE_DOMAIN:
        yield note('ROS_DOMAIN_ID', f'{text}: its ports are those that Linux hands out to anybody',
                   f'a number from 0 to {_SAFE_DOMAIN}')
    else:
        yield ok('ROS_DOMAIN_ID', text or '0 (not set)')
    if environment.get('ROS_LOCALHOST_ONLY', '0') not in ('', '0'):
        yield note('ROS_LOCALHOST_ONLY', 'set: nodes on other computers are not seen', 'unset it where they should be')
    discovery = environment.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    if discovery.upper() in ('LOCALHOST', 'OFF'):
        yield note('ROS_AUTOMATIC_DISCOVERY_RANGE', f'{discovery}: nodes on other computers are not seen',
                   'unset it where they should be')


def large_images(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at what stands in the way of whole images: profile of Fast DDS, shared memory, buffer of sockets."""
    if environment.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp').startswith('rmw_fastrtps'):
        yield _profile(environment)
        try:
            size = shutil.disk_usage(SHARED_MEMORY)
        except OSError as error:
            yield note('/dev/shm', f'cannot be used ({error.strerror}): images go through the network stack',
                       'in a container: --shm-size 256m')
        else:
            text = f'{size.free / 1e6:.0f} MB of {size.total / 1e6:.0f} MB free'
            yield ok('/dev/shm', text) if size.free >= _LEAST_SHARED_MEMORY else note(
                '/dev/shm', f'{text}: too small for images', 'in a container: --shm-size 256m; else close or restart '
                                                             'nodes, dead ones leave files of Fast DDS there')
    try:
        buffer = int(RMEM_MAX.read_text())
    except (OSError, ValueError):
        return  # not Linux, or a container that hides it
    text = f'{buffer / 1e6:.1f} MB for what comes over the network'
    yield ok('net.core.rmem_max', text) if buffer >= _IMAGE else note(
        'net.core.rmem_max', f'{text}: raw images of 1920x1080 px ({_IMAGE / 1e6:.1f} MB) of other computers get lost',
        'sudo sysctl -w net.core.rmem_max=33554432 (and a file in /etc/sysctl.d), or compressed images')


def _profile(environment: Mapping[str, str]) -> Finding:
    # Version 2 of Fast DDS (Humble, Jazzy) reads the first name, version 3 the second.
    old = environment.get('ROS_DISTRO', '') in ('foxy', 'galactic', 'humble', 'iron', 'jazzy')
    name = 'FASTRTPS_DEFAULT_PROFILES_FILE' if old else 'FASTDDS_DEFAULT_PROFILES_FILE'
    file = environment.get(name, '')
    cure = f'export {name}=.../share/pose3d_ros/config/fastdds.xml where the camera driver is started'
    if not file:
        return note('Fast DDS', f'{name} is not set here: images over 0.5 MB hardly pass between processes (the launch '
                                'files of pose3d_ros set it for their own nodes)', cure)
    try:
        text = Path(file).read_text(errors='replace')
    except OSError as error:
        return problem('Fast DDS', f'{name} names {file}, which cannot be read ({error.strerror})', cure)
    segments = [int(size) for size in re.findall(r'<segment_size>\s*(\d+)\s*</segment_size>', text)]
    if max(segments, default=0) < _IMAGE:
        return note('Fast DDS', f'{file} gives shared memory no room for images: segment_size is '
                                f'{max(segments, default=0) or "not set"}', cure)
    return ok('Fast DDS', f'{max(segments) / 1e6:.0f} MB of shared memory for images, from {file}')


def _cv_bridge(found: Mapping[str, str]) -> Finding:
    if 'error' in found and found['error'].startswith('No module named'):
        return ok('cv_bridge', 'not installed; pose3d_ros does without it')
    reply = ask('cv_bridge')
    if not reply.failed:
        return ok('cv_bridge', 'works')
    said = ' '.join((*reply.noise, reply.failed, found.get('error', '')))
    if any(words in said for words in _TROUBLE_WITH_NUMPY):
        return note('cv_bridge', 'compiled for NumPy 1, but NumPy 2 is found first: other nodes that use it break '
                                 '(pose3d_ros does without it)',
                    "pip uninstall numpy where it came from pip, or pip install 'numpy<2'")
    return note('cv_bridge', f'does not work ({reply.failed}); pose3d_ros does without it',
                'apt install --reinstall ros-$ROS_DISTRO-cv-bridge, and pip uninstall opencv-python where it clashes')


def _this_python() -> str:
    return f'{sys.version_info[0]}.{sys.version_info[1]}'
