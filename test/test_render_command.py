"""`pose3d render`: what its files hold, that they say how they were made, the sheet, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from procedural import write_mocap

from pose3d_ros.cli.main import main
from pose3d_ros.cli.render import DOMAINS
from pose3d_ros.skeleton import HUMAN17
from pose3d_ros.train.render import shots


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mocap(Path(tmp_path_factory.mktemp('data')) / 'walk.npz')


def render(data: Path, out: Path, *options: str) -> int:
    return main(['render', '--data', str(data), '--domain', 'street', '--count', '7', '--size', '32', '--split', 'val',
                 '--seed', '5', '--out', str(out), *options])


def test_a_file_holds_pictures_labels_and_how_it_was_made(data: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / 'new' / 'set.npz', tmp_path / 'figures.json'
    assert render(data, out, '--json', str(figures)) == 0
    with np.load(out, allow_pickle=False) as file:
        arrays = dict(file)
    shapes = {'images': (7, 32, 32, 3), 'joints2d': (7, 17, 2), 'visible': (7, 17), 'joints3d': (7, 17, 3),
              'hidden': (7, 17), 'pelvis': (7, 3), 'camera': (7, 3, 3), 'subject': (7,)}
    assert {name: arrays[name].shape for name in shapes} == shapes
    assert arrays['images'].dtype == np.uint8 and arrays['visible'].dtype == np.bool_
    assert set(arrays['subject']) == {'b'}             # of split val, nobody else
    assert list(arrays['joint_names']) == list(HUMAN17.joints)
    assert (int(arrays['size']), str(arrays['domain']), str(arrays['split']), int(arrays['seed'])) == (
        32, 'street', 'val', 5)
    command = str(arrays['command'])
    assert command == 'pose3d render --data walk.npz --split val --domain street --count 7 --size 32 --seed 5'
    said = json.loads(figures.read_text())
    assert said['pictures'] == 7 and said['people'] == 1 and said['ms_per_picture'] > 0


def test_the_sheet_shows_the_pictures_and_their_joints(data: Path, tmp_path: Path) -> None:
    sheet = tmp_path / 'sheet.png'
    assert render(data, tmp_path / 'set.npz', '--picture', str(sheet)) == 0
    drawn = cv2.imread(str(sheet))
    assert drawn.shape == (2 * 128, 7 * 128, 3)
    assert drawn[:128].std() > 10 and (drawn[128:] == 255).all(axis=-1).any()      # people; dots on their joints


def test_the_command_knows_the_domains_there_are() -> None:
    assert DOMAINS == shots.DOMAINS


@pytest.mark.parametrize(('options', 'said'), [
    (['--picture', 'sheet.gif'], '.png or .jpg'),
    (['--data', 'nothing.npz'], 'nothing.npz'),
    (['--leave-out', 'b'], "no clip of split 'val'")])
def test_what_is_wrong_is_said_in_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           options: list[str], said: str) -> None:
    assert render(data, tmp_path / 'set.npz', *options) == 1
    message = [line for line in capsys.readouterr().err.splitlines() if line.startswith('pose3d: ')]
    assert len(message) == 1 and said in message[0]
    assert not list(tmp_path.glob('*.part'))


@pytest.mark.parametrize('options', [['--domain', 'beach'], ['--count', '0'], ['--size', '8'], ['--seed', '-1']])
def test_wrong_arguments_are_usage_errors(data: Path, tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        render(data, tmp_path / 'set.npz', *options)
    assert stopped.value.code == 2
