"""What all managed nodes share: transitions that say why they fail, diagnostics, starting and a clean end."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Header

from pose3d_ros.ros.compat import lifecycle_state, reuse_large_buffers, steady_clock
from pose3d_ros.ros.declare import declare, values_of
from pose3d_ros.ros.health import ERROR, OK, STALE, Facts, Status, to_diagnostics
from pose3d_ros.ros.logs import NodeLog
from pose3d_ros.ros.params import Parameter, ParameterError

LOG_PERIOD_S = 5.0    # the same trouble is logged this often
SIGNAL_CHECK_S = 0.1  # a signal is noticed after this time at most
N = TypeVar('N', bound=Node)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class RefusedError(Exception):
    """A transition that cannot be made now; the text gives the reason and the cure."""


class NodeHealth(Protocol):
    """What is needed of the health of a node. report: now [s of a steady clock] to lines of diagnostics."""

    @property
    def facts(self) -> Facts: ...

    def report(self, now: float) -> list[Status]: ...


class ManagedNode(LifecycleNode):
    """A lifecycle node that starts itself (parameter autostart) and reports to /diagnostics once a second.

    A node fills in load, start, stop and unload; load and start may raise RefusedError: the node then stays as it was,
    alive, and the transition can be tried again.
    """

    def __init__(self, name: str, table: Sequence[Parameter], health: NodeHealth, **node_arguments: Any) -> None:
        self._log: NodeLog | None = None
        super().__init__(name, **node_arguments)
        self.health = health
        self.table = table
        declare(self, table, self._why_not_settable)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._logged: dict[tuple[str, bytes], float] = {}
        self._log = NodeLog(self.get_logger())  # after what may refuse the node
        clock = steady_clock()  # under a paused simulation the node starts and reports all the same
        self._diagnostics_timer = self.create_timer(1.0, self.report, clock=clock)
        if self.get_parameter('autostart').value:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=clock)

    def destroy_node(self) -> None:
        """Leave ROS; close() comes before."""
        if self._log is not None:
            self._log.close()
        super().destroy_node()

    def load(self, values: dict[str, Any]) -> None:
        """Open what the work needs, with these parameters. Raises RefusedError."""

    def start(self) -> None:
        """Begin to work. Raises RefusedError."""

    def stop(self) -> None:
        """End the work; nothing is done when there is none."""

    def unload(self) -> None:
        """Release what load opened; nothing is done when there is nothing."""

    def report(self) -> None:
        """Publish diagnostics now; what is not well is logged too, every few seconds."""
        now = time.monotonic()
        self.health.facts.state = lifecycle_state(self)
        statuses = self.health.report(now)
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(to_diagnostics(statuses, self.get_fully_qualified_name().lstrip('/'), header))
        for status in statuses:
            key = (status.name, status.level)
            patience = LOG_PERIOD_S if status.level == STALE else 0.0  # a camera may start a little later
            if status.level != OK and now - self._logged.setdefault(key, now - LOG_PERIOD_S + patience) >= LOG_PERIOD_S:
                self._logged[key] = now
                if status.level == ERROR:  # two lines: rclpy lets no line change its severity
                    self.get_logger().error(status.message)
                else:
                    self.get_logger().warning(status.message)

    def close(self) -> None:
        """Stop all work, whatever the state."""
        self.stop()
        self.unload()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition('configure', lambda: self.load(values_of(self, self.table)), undo=self.unload)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition('activate', self.start, undo=self.stop)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition('deactivate', self.stop)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition('clean up', self.unload)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition('shut down', self.close)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured, from where the node can be configured again."""
        return self._transition('recover', self.close)

    def _transition(self, name: str, step: Callable[[], None], undo: Callable[[], None] = lambda: None
                    ) -> TransitionCallbackReturn:
        try:
            step()
        except RefusedError as refusal:
            self.health.facts.problem = f'cannot {name}: {refusal}'
            self.get_logger().error(self.health.facts.problem)
            undo()
            return FAILURE
        except Exception as error:
            # rclpy turns any exception into a silent on_error: say here what it was, and let it go on.
            self.health.facts.problem = f'cannot {name}: {type(error).__name__}: {error}'
            self.get_logger().error(f'cannot {name}\n{traceback.format_exc()}')
            raise
        if name != 'recover':  # which keeps the reason for it
            self.health.facts.problem = ''
        return SUCCESS

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if lifecycle_state(self) == 'unconfigured' and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _why_not_settable(self) -> str:
        state = lifecycle_state(self)
        return '' if state == 'unconfigured' else f'can be set while unconfigured only, and the node is {state}'


class Spin(Protocol):
    """Lets callbacks run for some seconds, or until something is true; returns False when it is time to end."""

    def __call__(self, seconds: float, until: Callable[[], bool] = ...) -> bool: ...


class _Signals:
    """SIGINT and SIGTERM as a flag, so that the node can say goodbye while ROS is still up."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._notice) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: object) -> None:
        self.seen = True


def run(make_node: Callable[[], N], work: Callable[[N, Spin], int], args: Sequence[str] | None = None) -> int:
    """Run a node in this process until a signal comes or its work is done; returns the exit code.

    work: does what the node is for, lets callbacks run meanwhile (Spin), and returns the exit code. A bad parameter, or
    a command line that ROS refuses, is one line and exit code 1. A managed node is closed while ROS is still up.
    """
    reuse_large_buffers()
    with _Signals() as signals:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
            node = make_node()
        except (ParameterError, RuntimeError) as error:  # RuntimeError: rclpy's own, for arguments and parameter files
            print(f'cannot start: {error}', file=sys.stderr)
            rclpy.try_shutdown()
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        try:
            return work(node, spinner(executor, lambda: signals.seen))
        except ExternalShutdownException:
            return 0  # somebody else shut ROS down: an ordinary end
        finally:
            # The order matters: threads end, then the executor, the node, and ROS; otherwise the process aborts.
            if isinstance(node, ManagedNode):
                node.close()
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()


def spinner(executor: Executor, stopped: Callable[[], bool]) -> Spin:
    """Return the Spin of an executor, which says to end once stopped() is true."""
    def spin(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        end = time.monotonic() + seconds
        while not stopped():
            left = end - time.monotonic()
            executor.spin_once(timeout_sec=max(0.0, min(left, SIGNAL_CHECK_S)))
            if left <= 0 or until():
                return True
        return False

    return spin


def spin_until_signal(node: Node, spin: Spin) -> int:
    """The work of a node that is all callbacks."""
    while spin(1.0):
        continue
    return 0
