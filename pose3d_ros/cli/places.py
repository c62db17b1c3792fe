"""Where the package's own configuration files and messages are, in a checkout, a workspace or a pip installation."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pose3d_ros
from pose3d_ros.cli.errors import UserError


def config_file(name: str) -> Path:
    """Return config/<name>. Raises UserError when no installation holds it."""
    return _installed(f'config/{name}')


def message_files() -> list[Path]:
    """Return the definitions of our messages, msg/*.msg. Raises UserError when no installation holds them."""
    return sorted(_installed('msg/People2D.msg').parent.glob('*.msg'))


def _installed(name: str) -> Path:
    prefixes = [Path(prefix) for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix]
    prefixes += [Path(sysconfig.get_path('data')), Path(sys.prefix)]
    folders = [Path(pose3d_ros.__file__).parents[1], *(prefix / 'share' / 'pose3d_ros' for prefix in prefixes)]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f'{name} of pose3d_ros is not found beside the package nor under AMENT_PREFIX_PATH: install the '
                    'package again')
