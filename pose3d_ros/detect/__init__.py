"""Finding people in images, and their joints in pixels."""

from pose3d_ros.detect.detector import Detector, DetectSettings

__all__ = ['Detector', 'DetectSettings']
