"""Where the people around a robot are, in metres, from its cameras."""

import pkgutil

# The built messages (pose3d_ros.msg) live in another directory than a source checkout: show both as one package.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = '0.1.0'
