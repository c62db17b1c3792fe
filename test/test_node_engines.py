"""mono_node while engines are built, and after every mishap of a build: it always finds people."""

from __future__ import annotations

import errno
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import stub_backend
from stub_backend import PROVIDER, TOOLS, Stub, StubBackend

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import Bench, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402

from pose3d_ros.calibration import load_camera  # noqa: E402
from pose3d_ros.pipeline import Pipeline  # noqa: E402
from pose3d_ros.ros.images import encode_image  # noqa: E402
from pose3d_ros.runtime import cache as cache_module  # noqa: E402
from pose3d_ros.runtime import opening  # noqa: E402
from pose3d_ros.runtime.cache import EngineCache  # noqa: E402

CPU = 'CPUExecutionProvider'
CALIBRATION = Path(__file__).parents[1] / 'config' / 'samples' / 'single_person.yaml'


class Robot:
    """A computer with a stub in place of TensorRT, on which nodes are started one after another."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder, self.engines = folder, folder / 'pose3d_ros' / 'engines'
        self.camera = load_camera(CALIBRATION, 'cam01').camera
        capture = cv2.VideoCapture(str(image))
        self._image = capture.read()[1]
        capture.release()

    def orders(self, **orders: object) -> None:
        """Say what the stub does from now on."""
        Stub(log=str(self.folder / 'log'), **orders).save(self.folder / 'orders.json')  # type: ignore[arg-type]

    def node(self, **parameters: object) -> Bench:
        return Bench(open_pipeline=Pipeline.open, camera=self.camera, threads=1, detector_model='lite', **parameters)

    def finds_people(self, bench: Bench) -> None:
        """The node answers images, and with people."""
        count = len(bench.people)
        for number in range(2):
            bench.send(encode_image(self._image, bench.header()))
            wait_for(lambda wanted=count + number + 1: len(bench.people) == wanted)  # type: ignore[misc]
        assert bench.people[-1].people

    def ends_on(self, provider: str) -> DiagnosticStatus:
        """Start a node: it finds people at once, when all builds have ended, and then computes on this provider."""
        with self.node() as bench:
            bench.ready().send_info()
            self.finds_people(bench)
            wait_for(lambda: all(not engine.status for engine in bench.node.health.facts.engines.values()), 60)
            self.finds_people(bench)
            status = bench.status('engines')
        assert status.level == DiagnosticStatus.OK and bench.drops == {}
        values = {pair.key: pair.value for pair in status.values}
        assert [values[name].split()[0] for name in ('search', 'landmarks', 'lift')] == [provider] * 3
        return status

    @property
    def builds(self) -> int:
        log = self.folder / 'log'
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def robot(ros: None, models_dir: Path, sample_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
          ) -> Iterator[Robot]:
    monkeypatch.setenv(stub_backend.VARIABLE, '')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    (tmp_path / 'pose3d_ros').mkdir(mode=0o700)
    (tmp_path / 'pose3d_ros' / 'models').symlink_to(models_dir)
    monkeypatch.setattr(opening, 'Building', functools.partial(opening.Building, StubBackend(), tools=TOOLS))
    robot = Robot(tmp_path, sample_dir / 'cam01.mp4')
    robot.orders()
    yield robot


def test_people_are_found_while_engines_are_built_and_diagnostics_say_so(robot: Robot) -> None:
    robot.orders(build_s=3.0)
    with robot.node() as bench:
        bench.ready().send_info()
        robot.finds_people(bench)
        # A busy machine takes its time to start the process that builds; until then the message says that too.
        wait_for(lambda: 'building engine' in bench.status('engines').message, 20)
        status = bench.status('engines')
        assert status.level == DiagnosticStatus.WARN and 'building engine' in status.message
        assert status.message.endswith(' s') and {pair.value for pair in status.values} >= {f'{CPU} fp32'}
    assert not list(robot.engines.glob('*.plan'))  # the node left in the middle: nothing half done is kept


def test_the_second_node_finds_the_engines_of_the_first(robot: Robot) -> None:
    robot.ends_on(PROVIDER)
    assert robot.builds == 3
    assert robot.ends_on(PROVIDER).message == f'{PROVIDER} fp16' and robot.builds == 3


def corrupted(robot: Robot) -> None:
    for plan in robot.engines.glob('*.plan'):
        content = bytearray(plan.read_bytes())
        content[len(content) // 2] ^= 1
        plan.write_bytes(content)


@pytest.mark.parametrize('harm', [corrupted, lambda robot: robot.orders(device='another GPU')],
                         ids=['corrupted', 'of another GPU'])
def test_a_cache_that_does_not_fit_is_built_anew(robot: Robot, harm: Callable[[Robot], None]) -> None:
    robot.ends_on(PROVIDER)
    harm(robot)
    robot.ends_on(PROVIDER)
    assert robot.builds == 6


@pytest.mark.parametrize('trouble', ['full disk', 'no folder'])
def test_engines_that_cannot_be_kept_serve_all_the_same(robot: Robot, monkeypatch: pytest.MonkeyPatch,
                                                        trouble: str) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    if trouble == 'full disk':
        monkeypatch.setattr(cache_module.os, 'fsync', full)
    else:
        robot.engines.touch()
    status = robot.ends_on(PROVIDER)
    assert any('not kept' in pair.value for pair in status.values if pair.key == 'lift.remark')


def test_a_compiler_that_is_killed_leaves_the_node_on_the_cpu_and_the_next_start_builds(robot: Robot) -> None:
    robot.orders(faults={'fp16': 'SIGKILL'})
    status = robot.ends_on(CPU)
    assert any('SIGKILL' in pair.value for pair in status.values if pair.key == 'landmarks.remark')
    robot.orders()
    robot.ends_on(PROVIDER)


def test_engines_that_are_wrong_in_every_precision_leave_the_node_on_the_cpu(robot: Robot) -> None:
    robot.orders(error={'fp16': 0.5, 'mixed': 0.5, 'fp32': 0.5})
    robot.ends_on(CPU)
    assert robot.builds == 9 and len(EngineCache(robot.engines).records()) == 3
    robot.ends_on(CPU)
    assert robot.builds == 9  # it is known
    shutil.rmtree(robot.engines)
