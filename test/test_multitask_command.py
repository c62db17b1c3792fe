"""The image network by its commands: from sets of images to runs, tables, and a file that finds joints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs PyTorch: make train-env')

from image_people import people  # noqa: E402
from test_mpii import ALL, person  # noqa: E402
from test_mpii import write as write_mpii  # noqa: E402

from pose3d_ros.attributes import ATTRIBUTE_JOINTS, KINDS  # noqa: E402
from pose3d_ros.cli import evaluate_parts_images, train_parts_images  # noqa: E402
from pose3d_ros.cli.main import main  # noqa: E402
from pose3d_ros.detect.heads import decode_heatmaps  # noqa: E402
from pose3d_ros.detect.own import open_reader  # noqa: E402
from pose3d_ros.nets.hourglass import heat_targets  # noqa: E402
from pose3d_ros.runtime.engine import Wanted  # noqa: E402
from pose3d_ros.skeleton import HUMAN17  # noqa: E402
from pose3d_ros.train.loop import CHECKPOINT, limit_threads  # noqa: E402
from pose3d_ros.train.multitask import STRATEGIES, MultiTaskSettings, as_input, load_trained  # noqa: E402
from pose3d_ros.train.multitask_export import ToMaps  # noqa: E402
from pose3d_ros.train.multitask_joined import JoinedSettings  # noqa: E402

limit_threads(1)
SIZE = 32
TRAINING = ['--steps', '3', '--lift-steps', '3', '--joined-steps', '2', '--stacks', '1', '--features', '8', '--batch',
            '8', '--threads', '1']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images of two domains and what all strategies learnt of them."""
    folder = Path(tmp_path_factory.mktemp('images'))
    for name, domain, seed in (('a', 'studio', 0), ('b', 'street', 1)):
        people(30, seed, domain, SIZE).save(folder / f'{name}.npz')
    assert train(folder, folder / 'runs', '--strategies', *STRATEGIES, '--validation', *pair(folder)) == 0
    return folder


def pair(folder: Path) -> list[str]:
    return [str(folder / 'a.npz'), str(folder / 'b.npz')]


def train(folder: Path, out: Path, *more: str) -> int:
    return main(['train', 'parts_images', '--images', *pair(folder), '--out', str(out), *TRAINING, *more])


def test_tables_of_what_was_trained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'parts_images', '--runs', str(folder / 'runs'), '--images', *pair(folder), '--json',
                 str(tmp_path / 'found.json')]) == 0
    told, found = capsys.readouterr().out, json.loads((tmp_path / 'found.json').read_text())
    for strategy in STRATEGIES:
        assert strategy in told
        for domain in ('studio', 'street'):
            shares = found['attribute_accuracy']['rendered'][strategy][domain]
            assert list(shares) == [*KINDS, 'mean'] and all(0 <= share <= 1 for share in shares.values())
            assert shares['mean'] == pytest.approx(np.mean([shares[kind] for kind in KINDS]))
            assert found['joints_3d'][strategy][domain].keys() >= {'before_mm', 'after_mm'}
    assert set(found['domain_classifier']) == {'mixed', 'adapted'} and found['runs'] == 1
    assert found['images'] == {'studio': 30, 'street': 30}


def test_several_runs_are_averaged() -> None:
    row = {'mean': 0.5, 'pckh': 0.8, 'error_px': 2.0, 'second': 0.1, 'sides': 0.5}
    runs = [{'mixed': {'a': row, 'b': {**row, 'second': 0.7}}},
            {'mixed': {'a': {**row, 'mean': 0.6}, 'b': {**row, 'second': 0.9}}}]
    found = evaluate_parts_images.summary(runs, ['a', 'b'], {})
    assert found['attribute_accuracy']['rendered']['mixed']['a']['mean'] == pytest.approx(0.55)
    assert found['attribute_accuracy_spread']['mixed'] == {'a': {'mean': pytest.approx(0.05)}, 'b': {'mean': 0}}
    assert found['domain_classifier']['mixed']['accuracy'] == pytest.approx(0.85)
    assert found['joints_3d'] == {}


def test_the_same_command_again_has_nothing_left_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / 'runs' / 'mixed' / 'joined' / CHECKPOINT
    before = path.read_bytes()
    assert train(folder, folder / 'runs', '--strategies', 'mixed') == 0
    assert path.read_bytes() == before and 'joined, 2 steps' in capsys.readouterr().out
    assert train(folder, folder / 'runs', '--strategies', 'mixed', '--seed', '1') == 1
    assert 'other settings (seed)' in capsys.readouterr().err


def test_a_step_that_was_left_out_can_follow_later(folder: Path, tmp_path: Path) -> None:
    for steps in ('0', '2'):
        assert train(folder, tmp_path, '--strategies', 'mixed', '--joined-steps', steps) == 0
        assert (tmp_path / 'mixed' / 'joined' / CHECKPOINT).exists() == (steps == '2')


def test_the_exported_file_finds_joints_as_an_own_model(folder: Path, tmp_path: Path) -> None:
    onnx = tmp_path / 'images.onnx'
    assert main(['export', 'parts_images', '--out', str(folder / 'runs'), '--onnx', str(onnx)]) == 0
    image = people(1, 5, size=SIZE).images[0]
    network = ToMaps(load_trained(folder / 'runs' / 'adapted' / 'multitask' / CHECKPOINT)[0])
    with torch.no_grad():
        maps, attributes = network(as_input(torch.from_numpy(image[None])))
    reader = open_reader(onnx.with_suffix('.yaml'), Wanted(runtime='cpu', threads=1))
    try:
        assert reader.skeleton.joints == HUMAN17.joints and reader.skeleton.bones == HUMAN17.bones
        found = reader.engine.run({'image': image.transpose(2, 0, 1)[None].astype(np.float32)})
        np.testing.assert_allclose(found['heatmaps'], maps, atol=1e-4)
        np.testing.assert_allclose(found['attributes'], attributes, atol=1e-4)
        middle = 0.5 * (SIZE - 1)
        poses, = reader([(image, np.array([[middle, middle, float(SIZE), 0.0]]))])
        assert poses.pixels.shape == (1, 17, 2) and poses.attributes.shape == (1, len(ATTRIBUTE_JOINTS), 3)
        np.testing.assert_allclose(poses.attributes.sum(axis=2), 1, atol=1e-5)
    finally:
        reader.engine.close()


def test_the_cells_are_read_where_they_were_written() -> None:
    points = np.random.default_rng(0).uniform(10, 50, (20, 17, 2))
    maps = heat_targets(torch.from_numpy(points), 16)[0].numpy()
    decoded = decode_heatmaps(maps, (64, 64), grid='centres')     # as the description says
    np.testing.assert_allclose(decoded.points, points, atol=0.05)


def test_from_mpii_and_human36m_in_their_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('cdflib', reason='reading Human3.6M needs cdflib: make train-env')
    from test_human36m import write_take
    mpii = write_mpii(tmp_path / 'mpii', [(f'{video}.png', [person(ALL)], 1, video) for video in (1, 2, 9)])
    (mpii / 'images' / '1.png').unlink()
    for subject in ('S1', 'S9'):
        write_take(tmp_path / 'h36m', subject, 'Walking', 0)
    data = ['--mpii', str(mpii), '--human36m', str(tmp_path / 'h36m'), '--size', str(SIZE)]
    out = str(tmp_path / 'runs')
    for _ in range(2):                   # the second time the crops are there already
        assert main(['train', 'parts_images', *data, '--out', out, '--strategies', 'mixed', *TRAINING]) == 0
        told = capsys.readouterr().out
        assert '3 images of human36m with 3D joints, 1 of mpii without' in told and '1 of mpii skipped' in told
    assert main(['evaluate', 'parts_images', '--runs', out, *data]) == 0
    assert main(['export', 'parts_images', '--out', out, '--strategy', 'mixed', '--joined']) == 0
    assert 'research only' in capsys.readouterr().out


def test_what_is_asked_wrongly_is_said_in_one_line(folder: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    people(3, 0, 'street', 64).save(folder / 'large.npz')
    for command, message in (
            (['train', 'parts_images', '--out', str(tmp_path)], 'give --images NPZ ..., or both --mpii'),
            (['train', 'parts_images', '--out', str(tmp_path), '--mpii', 'a'], 'give --images NPZ ..., or both --mpii'),
            (['train', 'parts_images', '--out', str(tmp_path), '--images', 'a.npz', 'b.npz'], 'a.npz: cannot be read'),
            (['evaluate', 'parts_images', '--runs', str(tmp_path), '--images', *pair(folder)], 'holds no strategy'),
            (['evaluate', 'parts_images', '--runs', str(folder / 'runs'), '--images', *pair(folder)[:1] * 2],
             'several sets of one domain'),
            (['train', 'parts_images', '--out', str(tmp_path), '--images', *pair(folder), '--validation',
              str(folder / 'a.npz'), str(folder / 'large.npz')], 'large.npz has images of 64 px, expected 32'),
            (['train', 'parts_images', '--out', str(tmp_path), '--images', *pair(folder), '--batch', '1'],
             '--batch 1: expected 2'),
            (['evaluate', 'parts_images', '--runs', str(folder / 'runs'), '--images', str(folder / 'large.npz')],
             'images of 64 px, but the network was trained on 32 px'),
            (['export', 'parts_images', '--out', str(tmp_path)], 'does not exist: train first'),
            (['train', 'parts_images', '--out', str(tmp_path), '--images', *pair(folder), '--features', '7'],
             'expected multiples of')):
        assert main(command) == 1
        error = capsys.readouterr().err.strip()
        assert message in error and '\n' not in error


def test_names_and_defaults_in_the_command_are_those_of_the_modules() -> None:
    assert train_parts_images.STRATEGIES == STRATEGIES and (*KINDS, 'mean') == evaluate_parts_images.KINDS
    image, later = MultiTaskSettings(), JoinedSettings()
    assert (image.loop.steps, later.lift.steps, later.joined.steps) == (
        train_parts_images.STEPS, train_parts_images.LIFT_STEPS, train_parts_images.JOINED_STEPS)
    assert (image.size, image.stacks, image.features, image.batch, image.reversal) == (
        train_parts_images.SIZE, train_parts_images.STACKS, train_parts_images.FEATURES, train_parts_images.BATCH,
        train_parts_images.REVERSAL)
