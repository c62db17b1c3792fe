"""~/calibrate of fusion_node on real rclpy: places come back while fusion goes on; what does not tell is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import wait_for  # noqa: E402
from fusion_bench import CAMERAS, FusionBench  # noqa: E402
from people_about import FPS, JOINTS, errors, ring, walk  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rig import Rounds  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from pose3d_ros.calibration import load_places, save_places  # noqa: E402
from pose3d_ros.fuse.extrinsics.child import Child  # noqa: E402
from pose3d_ros.fuse.extrinsics.estimate import Agreement, Extrinsics  # noqa: E402
from pose3d_ros.records import Person2D, PersonState  # noqa: E402
from pose3d_ros.ros.calibrate_service import CalibrateService, _known  # noqa: E402
from pose3d_ros.ros.fusion_views import Sighted  # noqa: E402
from pose3d_ros.ros.places import Places  # noqa: E402
from pose3d_ros.ros.tf import NoTransformError  # noqa: E402

NAMES = ('front', 'left', 'right')
TRUTH = dict(zip(NAMES, ring(3)))
START_NS = 1_760_000_000_000_000_000


def off(poses: Mapping[str, np.ndarray], turn: float = 0.01, shift: float = 0.03) -> dict[str, np.ndarray]:
    """Return poses (4, 4) as somebody might have measured them: turn [rad], shift [m]."""
    rng = np.random.default_rng(0)
    result = {}
    for name, pose in poses.items():
        result[name] = pose.copy()
        result[name][:3, :3] = Rotation.from_rotvec(rng.normal(0, turn, 3)).as_matrix() @ pose[:3, :3]
        result[name][:3, 3] += rng.normal(0, shift, 3)
    return result


def worst(found: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return the largest turn [deg] and shift [m] between cameras."""
    assert set(found) == set(truth)
    return errors(np.array([found[name] for name in truth]), np.array(list(truth.values())))


def test_places_are_found_and_used_while_fusion_goes_on(ros: None, tmp_path: Path) -> None:
    given, out = tmp_path / 'given.yaml', tmp_path / 'out' / 'found.yaml'
    walkers = [Rounds((-0.3, 0.0), 0.0), Rounds((0.5, 0.3), np.pi, size=0.92)]
    with FusionBench(walkers, path=given, calibration_out=str(out), calibration_place_sigma=0.0) as bench:
        bench.ready()
        start = off(bench.poses)
        save_places(given, start)
        reload = bench.tester.create_client(Trigger, 'fusion_node/reload_calibration')
        calibrate = bench.tester.create_client(Trigger, 'fusion_node/calibrate')
        wait_for(lambda: reload.service_is_ready() and calibrate.service_is_ready())
        answer = reload.call_async(Trigger.Request())
        wait_for(answer.done)
        rate = len(bench.play(5.0)) / 5.0  # sets a second, as busy as this machine is
        answer, came, rounds = calibrate.call_async(Trigger.Request()), [], 0
        while not answer.done() and rounds < 60:
            came.append(len(bench.play(1.0)))
            rounds += 1
        response = answer.result()
        assert response.success, response.message
        assert min(came) > 0 and np.mean(came) > 0.5 * rate
        assert all(f'{name} ' in response.message for name in CAMERAS) and 'in use' in response.message
        assert bench.values('fusion')['places'] == f'file {given}, changed since by calibration'
        before, after = worst(start, bench.poses), worst(load_places(out), bench.poses)
        assert after[0] < 0.35 < before[0] and after[1] < 0.06 < before[1]
        assert 'front_frame' in (tmp_path / 'out' / 'found.launch.py').read_text()
        bench.play(0.5)
        # m: they are in use; people stand no nearer to the truth than the cameras that see them
        assert np.mean(bench.errors(bench.play(0.6)[5:])) < 0.06


@dataclass
class Service:
    """The service of a plain node, fed by hand. known: what TF says, camera_T_map by name of frame."""

    node: Node
    service: CalibrateService
    client: Any
    executor: SingleThreadedExecutor
    changes: list[None]
    out: Path

    def feed(self, seconds: float = 4.0, cameras: Mapping[str, np.ndarray] = TRUTH, **fields: Any) -> None:
        for number in range(round(seconds * FPS)):
            for name, pose in cameras.items():
                self.service.remember(replace(sighted(name, pose, number / FPS), **fields))

    def call(self, seconds: float = 90.0) -> Any:
        wait_for(self.client.service_is_ready)
        answer = self.client.call_async(Trigger.Request())
        end = time.monotonic() + seconds
        while not answer.done() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.1)
        return answer.result()


class Known:
    """TF as a test says. moving: m/s along x of every camera."""

    def __init__(self, poses: Mapping[str, np.ndarray], moving: float = 0.0) -> None:
        self.poses, self.moving, self.closed = poses, moving, 0

    def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        if target not in self.poses:
            raise NoTransformError('tf_lookup', f'nobody publishes {target}')
        pose = self.poses[target]
        return pose[:3, :3], pose[:3, 3] + (self.moving * (stamp_ns - START_NS) * 1e-9, 0, 0)

    def close(self) -> None:
        self.closed += 1


def sighted(name: str, pose: np.ndarray, seconds: float) -> Sighted:
    local = walk(np.array([seconds]))[0] @ pose[:3, :3].T + pose[:3, 3]
    rays = local[:, :2] / local[:, 2:]
    count = len(JOINTS)
    person = Person2D(JOINTS, 900 * rays, rays, np.ones(count), np.ones(count), np.ones(count), np.zeros(4), 0.9, 1,
                      PersonState.TRACKED)
    return Sighted(name, f'{name}_frame', START_NS + round(1e9 * seconds), [person], [], 900.0, 1280, 720, 0.0, {})


@pytest.fixture
def make(ros: None, tmp_path: Path) -> Iterator[Any]:
    made: list[Service] = []

    def service(known: Known, **values: Any) -> Service:
        node = Node('fusion', namespace='/calibrate')
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        out = tmp_path / 'found.yaml'
        values = {'calibration_window': 60.0, 'calibration_place_sigma': 0.0, 'calibration_stature': 0.0,
                  'calibration_out': str(out), 'frame': 'map', 'extrinsics_source': 'tf', **values}
        changes: list[None] = []
        made.append(Service(node, CalibrateService(node, values, Places('map', known), lambda: changes.append(None)),
                            node.create_client(Trigger, '~/calibrate'), executor, changes, out))
        return made[-1]

    yield service
    for each in made:
        each.service.close()
        each.executor.shutdown()
        each.node.destroy_node()


def test_with_no_place_known_the_stature_gives_the_size_and_tf_is_written(make: Any) -> None:
    service = make(Known({}), calibration_stature=1.75)
    service.feed()
    response = service.call()
    assert response.success and f'ros2 launch {service.out.with_suffix(".launch.py")}' in response.message
    turn, shift = worst(load_places(service.out), TRUTH)
    assert turn < 0.1 and shift < 0.02
    text = service.out.with_suffix('.launch.py').read_text()
    assert all(f"'{name}_frame'" in text for name in NAMES) and "'map'" in text
    assert not service.changes  # TF is not ours to change


def test_a_camera_that_saw_nobody_keeps_its_place_and_is_named(make: Any) -> None:
    poses = {**TRUTH, 'back': TRUTH['front'] @ np.diag([-1.0, -1.0, 1.0, 1.0])}
    service = make(Known({f'{name}_frame': pose for name, pose in poses.items()}))
    service.feed()
    service.feed(1.0, {'back': poses['back']}, people_2d=[])
    response = service.call()
    assert response.success and 'nobody was seen by back' in response.message
    places = load_places(service.out)
    assert np.allclose(places['back'], poses['back'], atol=1e-6)
    assert np.allclose(places['left'], TRUTH['left'], atol=0.02)


def test_a_camera_that_died_long_ago_keeps_nobody_from_calibrating(make: Any) -> None:
    service = make(Known({f'{name}_frame': pose for name, pose in TRUTH.items()}))
    service.feed(2.0, {'back': TRUTH['front']})
    service.feed(at=61.0)
    response = service.call()
    assert response.success and 'back' not in response.message, response.message


def test_a_camera_whose_tf_began_just_now_may_be_moving_and_is_no_start(make: Any) -> None:
    class Young(Known):
        def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
            if target == 'left_frame' and stamp_ns < START_NS:
                raise NoTransformError('tf_extrapolation', f'{target} is known from later on')
            return super().lookup(target, source, stamp_ns)

    service = make(Young({f'{name}_frame': pose for name, pose in TRUTH.items()}))
    service.feed(2.0)
    assert set(_known(service.service._places, service.service._last)) == {'front', 'right'}


def test_a_camera_that_was_knocked_away_is_found_again(make: Any) -> None:
    known = {f'{name}_frame': pose.copy() for name, pose in TRUTH.items()}
    known['left_frame'][:3] = Rotation.from_rotvec([0.0, 0.3, 0.0]).as_matrix() @ known['left_frame'][:3]
    service = make(Known(known), calibration_place_sigma=0.05)
    service.feed()
    response = service.call()
    assert response.success, response.message
    places = load_places(service.out)
    assert all(np.allclose(places[name], pose, atol=0.03) for name, pose in TRUTH.items())


@pytest.mark.parametrize(('known', 'seen', 'reason'), [
    (Known({}), (), 'people were seen by no camera in the last 60 s'),
    (Known({}), ('left',), 'people were seen by left in the last'),
    (Known({}), NAMES, 'the size of the scene is not known: set the parameter calibration_stature'),
    (Known({f'{name}_frame': pose for name, pose in TRUTH.items()}, moving=0.1), NAMES, 'front moves (50 cm'),
])
def test_what_cannot_be_is_refused_at_once_and_nothing_is_written(make: Any, known: Known, seen: tuple[str, ...],
                                                                  reason: str) -> None:
    service = make(known)
    service.feed(1.0, {name: TRUTH[name] for name in seen})
    response = service.call()
    assert not response.success and response.message.startswith(reason)
    assert not service.out.exists()


def test_what_the_recording_does_not_tell_is_refused_with_the_reason_of_the_estimation(make: Any) -> None:
    service = make(Known({f'{name}_frame': pose for name, pose in TRUTH.items()}))
    for number in range(60):
        for name, pose in TRUTH.items():
            service.service.remember(replace(sighted(name, pose, 0.0), stamp_ns=START_NS + number * 33_000_000))
    response = service.call()
    assert not response.success and response.message.startswith('nobody moves')
    assert not service.out.exists()


def test_a_result_that_fits_worse_than_what_holds_changes_nothing(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(child: Child, cameras: list[Any], given: Mapping[str, np.ndarray], settings: Any) -> Extrinsics:
        child.end()
        child._process.communicate()
        fit = [Agreement(np.array([3.0, px, 3.0]), 3.0, np.ones(3), np.ones(3)) for px in (4.4, 8.7)]
        return Extrinsics(np.array(list(TRUTH.values())), np.zeros(3), *fit, np.zeros(3), np.zeros(3), 1, 9)

    monkeypatch.setattr(Child, 'estimate', worse)
    service = make(Known({f'{name}_frame': pose for name, pose in TRUTH.items()}))
    service.feed(1.0)
    response = service.call()
    assert not response.success and response.message.startswith('left would fit worse than before (4.4 -> 8.7 px)')
    assert not service.out.exists()


def test_a_node_that_ends_does_not_wait_for_a_calibration(make: Any) -> None:
    service = make(Known({}), calibration_stature=1.75)
    service.feed()
    wait_for(service.client.service_is_ready)
    answer = service.client.call_async(Trigger.Request())
    end = time.monotonic() + 20
    while service.service._child is None and time.monotonic() < end:
        service.executor.spin_once(timeout_sec=0.05)
    begun = time.monotonic()
    service.service.close()
    assert time.monotonic() - begun < 3.0
    assert not service.out.exists()
    answer.cancel()


def test_a_place_that_cannot_be_written_is_said_and_nothing_changes(make: Any, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    service = make(Known({}), calibration_stature=1.75, calibration_out=str(tmp_path / 'file' / 'found.yaml'))
    service.feed()
    response = service.call()
    assert not response.success and 'file' in response.message
