"""Finding people in images, and their joints in pixels."""

from pose3d_ros.detect.detector import Detector, together
from pose3d_ros.detect.settings import DetectSettings

__all__ = ['DetectSettings', 'Detector', 'together']
