"""`pip install .`: the library and the `pose3d` command, without ROS. With ROS, colcon builds from CMakeLists.txt."""

from glob import glob

from setuptools import setup

# Beside the package, as in a ROS installation: <prefix>/share/pose3d_ros/config.
setup(data_files=[
    ('share/pose3d_ros/config', glob('config/*.*')),
    ('share/pose3d_ros/config/samples', glob('config/samples/*')),
])
