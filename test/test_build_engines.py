"""`pose3d build-engines`: engines in advance, with the stand-in for TensorRT."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from stub_backend import TOOLS, VARIABLE, Stub, StubBackend, save_network

from pose3d_ros.cli import build_engines
from pose3d_ros.cli.asked import asked_for
from pose3d_ros.cli.main import build_parser, main
from pose3d_ros.cli.networks import AT_ONCE, DEFAULT, LIFTER, MODELS, model_name, network
from pose3d_ros.cli.places import config_file
from pose3d_ros.detect import DetectSettings, networks
from pose3d_ros.lift import LiftModelError
from pose3d_ros.pipeline import Pipeline
from pose3d_ros.runtime import manager, opening
from pose3d_ros.runtime.cache import EngineCache
from pose3d_ros.runtime.opening import Building


@dataclass
class Workplace:
    """A cache, two networks, and the stand-in's orders."""

    folder: Path
    stub: Stub
    one: str
    two: str

    @property
    def cache(self) -> EngineCache:
        return EngineCache(self.folder / 'engines')

    def order(self, **orders: object) -> None:
        self.stub = replace(self.stub, **orders)
        self.stub.save(self.folder / 'orders.json')

    @property
    def builds(self) -> list[str]:
        """The precisions that were compiled, in order."""
        return [line.split()[1] for line in Path(self.stub.log).read_text().splitlines()]

    def files(self, suffix: str) -> list[str]:
        return sorted(file.name for file in self.cache.folder.glob(f'*{suffix}'))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv(VARIABLE, '')  # restored afterwards
    (tmp_path / 'log').touch()
    made = Workplace(tmp_path, Stub(log=str(tmp_path / 'log')), str(save_network(tmp_path / 'one.onnx')),
                     str(save_network(tmp_path / 'two.onnx', 3.0)))
    made.order()
    monkeypatch.setattr(build_engines, 'building', lambda: Building(StubBackend(), made.cache, tools=TOOLS,
                                                                    in_process=True))
    return made


def test_engines_are_built_once_checked_and_told(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['build-engines', place.one, place.two]) == 0
    shown = capsys.readouterr()
    assert place.builds == ['fp16', 'fp16'] and len(place.files('.plan')) == 2
    for name in ('one', 'two'):
        assert f'{name}: ready: up to 8 at once, built in 0 s; fp16: passed the self-check: 0 % off' in shown.out
    assert '2 engines ready' in shown.out and '100 %' in shown.err
    assert main(['build-engines', place.one]) == 0
    assert place.builds == ['fp16', 'fp16'] and 'one: ready: up to 8 at once, ready since 20' in capsys.readouterr().out


def test_a_failed_check_is_told_and_a_safer_precision_is_taken(place: Workplace,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    place.order(error={'fp16': 0.5})
    assert main(['build-engines', place.one]) == 0
    shown = capsys.readouterr()
    assert place.builds == ['fp16', 'mixed']
    assert 'fp16: failed the self-check: 50 % off; building it in mixed instead' in shown.err
    assert 'mixed: passed' in shown.out
    assert main(['build-engines', place.one, '--precision', 'fp32']) == 0
    assert place.builds == ['fp16', 'mixed', 'fp32']


def test_one_that_fails_is_named_and_the_others_are_built(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    place.order(error=dict.fromkeys(('fp16', 'mixed', 'fp32'), 0.5))
    assert main(['build-engines', place.one]) == 1
    assert 'pose3d: not ready: one (' in capsys.readouterr().err
    place.order(error={})
    assert main(['build-engines', place.one, place.two]) == 1  # that one was given up is kept
    shown = capsys.readouterr()
    assert 'one: not ready: ' in shown.out and 'two: ready' in shown.out
    assert shown.err.strip().splitlines()[-1].startswith('pose3d: not ready: one (')
    assert main(['build-engines', '--clear', place.one]) == 0
    assert main(['build-engines', place.one, place.two]) == 0


def test_without_a_gpu_the_reason_and_the_doctor_are_named(place: Workplace,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    place.order(why_not='TensorRT is not installed: pip install tensorrt')
    assert main(['build-engines', place.one]) == 1
    told = capsys.readouterr().err
    assert 'pip install tensorrt' in told and 'pose3d doctor' in told and len(told.splitlines()) == 1


def test_an_engine_that_cannot_be_kept_is_a_failure(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / 'engines').write_text('a file where the folder should be')
    assert main(['build-engines', place.one]) == 1
    assert 'built, but not kept: cannot write to' in capsys.readouterr().out


def test_ctrl_c_leaves_a_sound_cache_and_the_same_command_continues(
        place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    place.order(build_s=30.0)
    monkeypatch.setattr(build_engines, 'building', lambda: Building(StubBackend(), place.cache, tools=TOOLS))

    def interrupt(bar: object, share: float) -> None:
        if share > 0:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(build_engines._Bar, 'share', interrupt)
        assert main(['build-engines', place.one]) == 130
    assert 'the same command continues' in capsys.readouterr().err
    assert not place.files('.plan') and not place.files('.json') and not place.files('.tmp')
    place.order(build_s=0.0)
    assert main(['build-engines', place.one]) == 0
    builders = {line.split()[0] for line in Path(place.stub.log).read_text().splitlines()}
    assert len(builders) == 2 and str(os.getpid()) not in builders  # each in a process of its own


def test_engines_are_listed_and_cleared(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['build-engines', '--list']) == 0
    assert capsys.readouterr().out.startswith('0 engines in ')
    assert main(['build-engines', place.one, place.two]) == 0
    capsys.readouterr()
    assert main(['build-engines', '--list', place.one]) == 0
    listed = capsys.readouterr().out
    assert 'one: StubRT 1.0 on Stub, up to 8 at once: fp16, ' in listed and 'two' not in listed
    assert main(['build-engines', '--clear', place.one]) == 0
    assert [name[:4] for name in place.files('.plan')] == [name[:4] for name in place.files('.json')] == ['two-']
    assert main(['build-engines', '--clear']) == 0
    assert not (place.files('.plan') + place.files('.json') + place.files('.timing'))


@pytest.mark.parametrize(('orders', 'reason'), [({'version': '2.0'}, 'built by StubRT 1.0, here is StubRT 2.0'),
                                                ({'device': 'Other'}, 'for another GPU: Stub 1.0, here is Other 1.0')])
def test_only_stale_engines_are_cleared_when_asked(place: Workplace, capsys: pytest.CaptureFixture[str],
                                                   orders: dict[str, str], reason: str) -> None:
    assert main(['build-engines', place.one]) == 0
    place.order(**orders)
    assert main(['build-engines', place.two]) == 0
    capsys.readouterr()
    assert main(['build-engines', '--list', '--stale']) == 0
    assert f'[not used any more: {reason}]' in capsys.readouterr().out
    assert main(['build-engines', '--clear', '--stale']) == 0
    assert [name[:4] for name in place.files('.plan')] == ['two-'] and place.files('.timing')


def test_what_is_damaged_counts_as_stale(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['build-engines', place.one, place.two]) == 0
    one, two = (place.cache.folder / name for name in place.files('.json'))
    one.write_text('{}')
    two.unlink()
    capsys.readouterr()
    assert main(['build-engines', '--list', '--stale']) == 0
    listed = capsys.readouterr().out
    assert 'its record cannot be read' in listed and 'an engine without its record' in listed
    assert main(['build-engines', '--clear', '--stale']) == 0
    assert not (place.files('.plan') + place.files('.json'))


def test_without_a_gpu_nothing_of_others_is_stale(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['build-engines', place.one]) == 0
    place.order(why_not='no GPU')
    assert main(['build-engines', '--clear', '--stale']) == 0
    assert 'cannot be told apart' in capsys.readouterr().err and len(place.files('.plan')) == 1


def test_mistakes_are_one_line_with_the_choices(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    for command, told in ((['tiny'], 'pose_landmark_full'), (['sample'], 'pose_detection'), (['no.onnx'], 'no.onnx'),
                          (['lifter', '--all'], '--all'), (['--stale'], '--list'),
                          (['lite', '--lifter', 'parts'], 'default networks')):
        assert main(['build-engines', *command]) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and told in lines[0]


class Spy:
    """Notes what the stages open: file -> most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most: dict[str, int] = {}
        monkeypatch.setattr(networks, 'open_engine', self.open)
        monkeypatch.setattr(opening, 'open_engine', self.open)
        for name in ('BlazePoseReader', 'BlazePoseFinder'):
            monkeypatch.setattr(networks, name, lambda engine: SimpleNamespace(engine=engine, skeleton=()))

    def open(self, path: Path, wanted: object = None, *, most: int = AT_ONCE, **names: object) -> SimpleNamespace:
        self.most[path.stem] = most
        return SimpleNamespace(warm_up=lambda: None, close=lambda: None, inputs=(), metadata={})

    def path(self, name: str) -> Path:
        return Path(f'{name}.onnx')


@pytest.mark.parametrize(('cameras', 'people'), [(1, 8), (1, 3), (3, 5)])
def test_engines_are_those_that_the_nodes_ask_for(monkeypatch: pytest.MonkeyPatch, cameras: int, people: int) -> None:
    spy = Spy(monkeypatch)
    monkeypatch.setattr(networks, 'ModelStore', lambda: spy)
    with pytest.raises(LiftModelError):  # what was opened is no lifter
        Pipeline.open_group(cameras, detect=DetectSettings(max_people=people))
    prepared = [network(name, people, cameras, store=spy) for name in DEFAULT]
    assert {each.path.stem: each.most for each in prepared} == spy.most
    assert spy.most.keys() == set(DEFAULT)


def test_a_parameter_file_asks_for_what_its_nodes_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy, file = Spy(monkeypatch), tmp_path / 'robot.yaml'
    assert asked_for(config_file('mono.yaml'), store=spy) == [(network(name, 8, 1, store=spy), 'auto')
                                                              for name in DEFAULT]
    file.write_text('/front:\n  mono_node:\n    ros__parameters: {max_people: 3, detector_model: lite}\n'
                    '/back:\n  mono_node:\n    ros__parameters: {precision: fp32, runtime: tensorrt}\n'
                    'other: {ros__parameters: {runtime: cpu}}\nvideo_node: {ros__parameters: {rate: 5.0}}\n')
    asked = asked_for(file, store=spy)
    assert [(each.name, each.most, precision) for each, precision in asked] == [
        ('pose_detection', 8, 'auto'), ('pose_landmark_lite', 6, 'auto'), ('lifter', 3, 'auto'),
        ('pose_detection', 8, 'fp32'), ('pose_landmark_full', 11, 'fp32'), ('lifter', 8, 'fp32')]
    file.write_text('multi_node: {ros__parameters: {cameras: [a, b, c]}}\n'
                    'fusion_node: {ros__parameters: {cameras: [a]}}\n')
    assert asked_for(file, store=spy) == [(network(name, 8, 3, store=spy), 'auto') for name in DEFAULT]
    file.write_text('a: {ros__parameters: {lifter: parts, max_people: 5}}')
    assert [(each.name, each.most) for each, _ in asked_for(file, store=spy)][-1] == ('parts', 5)
    file.write_text('a: {ros__parameters: {lifter: posenet3d, max_people: 5}}')    # and its spare
    assert [(each.name, each.most) for each, _ in asked_for(file, store=spy)][-2:] == [('posenet3d', 5), ('lifter', 5)]
    file.write_text('/**/mono_node: {ros__parameters: {stature: 1.8}}')  # nothing about networks: the defaults
    assert asked_for(file, store=spy) == asked_for(config_file('mono.yaml'), store=spy)


@pytest.mark.parametrize(('text', 'told'), [
    ('a: [', 'not valid YAML'), ('rate: 3', 'no ros__parameters'), ('a: {ros__parameters: {rate: 3}}', 'max_people'),
    ('a: {ros__parameters: {precision: fp4}}', "precision is 'fp4'"),
    ('a: {ros__parameters: {lifter: arms}}', "'arms' is none of window, parts"),
    ('a: {ros__parameters: {max_people: many}}', 'max_people'), ('a: {ros__parameters: {runtime: cpu}}', 'no engine')])
def test_a_wrong_parameter_file_is_one_line(text: str, told: str, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'robot.yaml').write_text(text)
    assert main(['build-engines', '--params', str(tmp_path / 'robot.yaml')]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and told in lines[0] and 'robot.yaml' in lines[0]


def test_defaults_are_the_same_everywhere() -> None:
    assert opening.open_engine.__kwdefaults__['most'] == manager.prepare.__kwdefaults__['most'] == AT_ONCE
    assert build_parser('build-engines').parse_args(['build-engines']).max_people == DetectSettings().max_people


def test_networks_have_long_and_short_names() -> None:
    assert [model_name(name) for name in ('lifter', 'window', 'parts', 'full', 'detection', 'a/b.onnx')] == [
        LIFTER, LIFTER, 'parts', 'pose_landmark_full', 'pose_detection', 'b']
    assert set(DEFAULT) <= set(MODELS)


def test_a_described_model_is_built_for_what_it_is_given(tmp_path: Path) -> None:
    onnx = save_network(tmp_path / 'mine.onnx')
    (tmp_path / 'mine.yaml').write_text('kind: joints\nfile: mine.onnx\njoints: coco17\n'
                                        'input: {size: [192, 256]}\nhead: {type: heatmap}\n')
    assert network(str(tmp_path / 'mine.yaml'), 4, 2) == build_engines.Network('mine', onnx, 2 * (4 + 3))
