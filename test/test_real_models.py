"""mono_node with the real networks: models that are missing or altered, and real footage."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip('rclpy')
pytest.importorskip('pose3d_ros.msg')

from bench import Bench, wait_for  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402

from pose3d_ros.calibration import load_camera  # noqa: E402
from pose3d_ros.pipeline import Pipeline  # noqa: E402
from pose3d_ros.records import JointState  # noqa: E402
from pose3d_ros.ros.convert import from_people, from_people_2d  # noqa: E402
from pose3d_ros.ros.images import encode_image  # noqa: E402

CALIBRATION = Path(__file__).parents[1] / 'config' / 'samples' / 'single_person.yaml'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'pose3d_ros'


def test_missing_models_are_a_clear_error_with_the_cure(ros, cache):
    with Bench(open_pipeline=Pipeline.open) as bench:
        wait_for(lambda: bench.node.health.facts.problem and bench.state == 'unconfigured')
        status = bench.status('pipeline')
        assert status.level == DiagnosticStatus.ERROR
        assert str(cache) in status.message and 'pose3d fetch' in status.message


def test_an_altered_model_is_refused_until_it_is_whole_again(ros, models_dir, cache):
    shutil.copytree(models_dir, cache / 'models')
    model = cache / 'models' / 'pose_landmark_full.onnx'
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with Bench(open_pipeline=Pipeline.open) as bench:
        wait_for(lambda: bench.node.health.facts.problem and bench.state == 'unconfigured')
        assert str(model) in bench.status('pipeline').message
        shutil.copy(models_dir / model.name, model)
        assert bench.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert bench.status('pipeline').level == DiagnosticStatus.OK


def frames(sample_dir, count):
    capture = cv2.VideoCapture(str(sample_dir / 'cam01.mp4'))
    images = [capture.read()[1] for _ in range(count)]
    capture.release()
    return images


def test_real_footage_gives_a_person_at_a_plausible_distance_and_empty_rooms_nobody(ros, models_dir, sample_dir):
    camera = load_camera(CALIBRATION, 'cam01').camera
    with Bench(open_pipeline=Pipeline.open, camera=camera, threads=1) as bench:
        bench.ready().send_info()
        for number, image in enumerate(frames(sample_dir, 4)):
            bench.send(encode_image(image, bench.header()))
            wait_for(lambda count=number + 1: len(bench.people) == count)
        nearest = min(from_people(bench.people[-1]), key=lambda person: abs(person.joint('pelvis')[2] - 3))
        assert 2.0 < nearest.joint('pelvis')[2] < 4.5 and abs(nearest.joint('pelvis')[0]) < 1.0
        values = {pair.key: pair.value for pair in bench.status('pipeline').values}
        assert values['provider'] == 'CPUExecutionProvider' and int(values['ids_made']) >= 1
        bench.node.trigger_deactivate()
        bench.node.trigger_activate()
        bench.ready().send_info()
        for number in range(3):
            bench.send(encode_image(np.full((camera.height, camera.width, 3), 90, np.uint8), bench.header()))
            wait_for(lambda count=number + 5: len(bench.people) == count)
        assert [len(message.people) for message in bench.people[-3:]] == [0, 0, 0]


def test_half_a_person_at_the_border_has_inferred_feet_and_none_on_the_edge(ros, models_dir, sample_dir):
    whole = load_camera(CALIBRATION, 'cam01').camera
    bottom = 900  # the lower border runs through the legs of the man
    camera = replace(whole, height=bottom)
    with Bench(open_pipeline=Pipeline.open, camera=camera, threads=1) as bench:
        bench.ready().send_info()
        for image in frames(sample_dir, 4):
            bench.send(encode_image(image[:bottom], bench.header()))
        wait_for(lambda: len(bench.people_2d) == 4 and len(bench.people) == 4)
        in_image, in_space = from_people_2d(bench.people_2d[-1]), from_people(bench.people[-1])
        assert bench.drops == {} and len(in_image) >= 1 and len(in_space) >= 1
        for person in in_image:
            known = person.pixels[~np.isnan(person.pixels[:, 0])]
            assert (known >= 0).all() and (known < (camera.width - 1, camera.height - 1)).all()
        man = min(in_image, key=lambda person: abs(person.box[::2].mean() - 410))  # where he stands
        feet = man.skeleton.indices(['left_ankle', 'right_ankle', 'left_heel', 'right_heel'])
        assert np.isnan(man.pixels[feet]).all() and np.isnan(man.rays[feet]).all()
        legs = next(person for person in in_space if person.id == man.id)
        ankle, shoulder = (legs.skeleton.index(f'left_{joint}') for joint in ('ankle', 'shoulder'))
        assert (legs.joint_state[[ankle, shoulder]] == (JointState.INFERRED, JointState.OBSERVED)).all()
        assert legs.joint_confidence[ankle] == 0 and np.isfinite(legs.position).all()
        assert np.trace(legs.covariance[ankle]) > np.trace(legs.covariance[shoulder])
