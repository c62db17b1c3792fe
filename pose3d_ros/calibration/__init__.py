"""Calibration files: cameras with their places, read from the files of many tools, written as YAML and as static TF.

The formats, their units and conventions: docs/calibration.md. `load_calibration` tells them apart by what is in them.
"""

from pose3d_ros.calibration.load import load_calibration, load_camera, load_lenses, load_places
from pose3d_ros.calibration.own import save_calibration, save_camera, save_places
from pose3d_ros.calibration.places import CalibratedCamera, with_up
from pose3d_ros.calibration.static_tf import check_frame, optical_frame, static_transform_launch, static_transforms

__all__ = ['CalibratedCamera', 'check_frame', 'load_calibration', 'load_camera', 'load_lenses', 'load_places',
           'optical_frame', 'save_calibration', 'save_camera', 'save_places', 'static_transform_launch',
           'static_transforms', 'with_up']
