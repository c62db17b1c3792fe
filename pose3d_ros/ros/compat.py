"""The only place that knows what differs between ROS 2 distributions, or is not public in rclpy."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.subscription import Subscription

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST_REUSED = 32 << 20                      # bytes; the most that glibc accepts
_KEPT_FREE = 256 << 20                          # bytes


def parameter_overrides(node: Node) -> dict[str, Any]:
    """Return what YAML files, the command line and the constructor set for this node, declared or not."""
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def lifecycle_state(node: LifecycleNode) -> str:
    """Return the label of the state: 'unconfigured', 'inactive', 'active', 'finalized', or that of a transition."""
    return str(node._state_machine.current_state[1])


def waiting_messages(subscription: Subscription) -> Iterator[Any]:
    """Yield the messages that wait in the queue of a subscription now, instead of one each time its executor looks."""
    for _ in range(subscription.qos_profile.depth):
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        yield taken[0]


def steady_clock() -> Clock:
    """Return a clock for timers that have to run whatever /clock says."""
    return Clock(clock_type=ClockType.STEADY_TIME)


def reuse_large_buffers() -> bool:
    """Have malloc keep freed image buffers instead of giving them back to the system at once; False where it cannot.

    An image of 6 MB is copied four times on its way through DDS and rclpy. By default each copy is made in fresh
    memory, which the kernel maps page by page: for images of 1080x1920 px that took three times as long as the copying
    (13 against 4 ms of processor time; benchmarks/transport.py).
    """
    if any(name in os.environ for name in ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')):
        return True  # somebody has decided
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # not glibc
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_REUSED) and mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE))
