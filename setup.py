"""`pip install .`: the library and the `pose3d` command, without ROS. With ROS, colcon builds from CMakeLists.txt."""

from glob import glob

from setuptools import setup

# As in a ROS installation: <prefix>/share/pose3d_ros/config, and the marker by which ROS finds the package.
setup(data_files=[
    ('share/ament_index/resource_index/packages', ['resource/pose3d_ros']),
    ('share/pose3d_ros', ['package.xml']),
    ('share/pose3d_ros/config', glob('config/*.*')),
    ('share/pose3d_ros/config/samples', glob('config/samples/*')),
    ('share/pose3d_ros/msg', glob('msg/*.msg')),  # to read bags that do not hold the definitions of their messages
])
