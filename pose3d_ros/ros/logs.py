"""What the ROS-free part of the package logs, in the log of a node."""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger

PACKAGE = 'pose3d_ros'


class NodeLog(logging.Handler):
    """Hands what the package's loggers say to a node, until it is closed."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__(logging.INFO)
        self._logger = logger
        package = logging.getLogger(PACKAGE)
        package.setLevel(logging.INFO)
        package.addHandler(self)

    def close(self) -> None:
        """Stop listening."""
        logging.getLogger(PACKAGE).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:  # a line for each: rclpy lets no line change its severity
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)
