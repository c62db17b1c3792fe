"""`pose3d doctor`: each fault is found with its cure, and nothing that a broken installation does breaks the doctor."""

from __future__ import annotations

import configparser
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

import pose3d_ros
from pose3d_ros.cli.doctor import command as doctor
from pose3d_ros.cli.doctor import installed, machine, probe, ros_environment
from pose3d_ros.cli.doctor.findings import NOTE, OK, PROBLEM, Finding, Section, examine, note, ok, problem
from pose3d_ros.cli.doctor.machine import Gpus
from pose3d_ros.cli.main import main

ROOT = Path(__file__).parents[1]
NO_GPU, GPU = Gpus(), Gpus(('NVIDIA Test, driver 550.1, 8192 MiB, compute capability 8.9',))


def worst(findings: Iterable[Finding], name: str = '') -> Finding:
    """Return the gravest finding (of a name), of which notes and problems must name a cure or need none."""
    found = [finding for finding in findings if name in ('', finding.name)]
    assert found, name
    assert all(finding.cure and '\n' not in finding.cure for finding in found if finding.level == PROBLEM)
    return max(found, key=lambda finding: (OK, NOTE, PROBLEM).index(finding.level))


def make_package(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text(code)


def make_distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


# --- What cannot go wrong ---------------------------------------------------------------------------------------------

def test_a_look_that_fails_or_hangs_leaves_what_it_found() -> None:
    def fails() -> Iterable[Finding]:
        yield ok('first', 'here')
        raise ZeroDivisionError('nobody thought of this')

    def hangs() -> Iterable[Finding]:
        yield ok('first', 'here')
        time.sleep(60)

    started = time.monotonic()
    sections = list(examine([Section('a', fails), Section('b', hangs, 0.3), Section('c', lambda: [ok('only', 'x')])]))
    assert time.monotonic() - started < 5
    assert [section.title for section in sections] == ['a', 'b', 'c']
    assert [[found.level for found in section.findings] for section in sections] == [[OK, PROBLEM], [OK, PROBLEM], [OK]]
    assert 'ZeroDivisionError: nobody' in sections[0].findings[-1].text
    assert 'no answer within 0.3 s' in sections[1].findings[-1].text


def test_imports_survive_whatever_a_package_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in {'good': '__version__ = "1.2"', 'junk': 'import os; os.write(1, b"{junk\\n" * 9999); print("x")',
                       'crash': 'import os; os.abort()', 'ends': 'import sys; sys.exit(3)', 'odd': 'raise OSError()',
                       'hang': 'import time; time.sleep(60)', 'last': '__version__ = 7'}.items():
        make_package(tmp_path, f'x_{name}', code)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ['x_good', 'x_junk', 'x_crash', 'x_ends', 'x_odd', 'x_hang', 'x_none', 'x_last']
    found = probe.imports(names, limit_s=2.0)
    assert list(found) == names
    assert found['x_good'] == {'version': '1.2', 'file': str(tmp_path / 'x_good/__init__.py')}
    assert found['x_last']['version'] == '7' and 'error' not in found['x_junk']
    assert 'SIGABRT' in found['x_crash']['error'] and 'no answer within 2 s' in found['x_hang']['error']
    assert found['x_odd']['error'] == 'OSError' and 'No module named' in found['x_none']['error']


def test_a_question_that_breaks_off_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, 'ask', lambda *args, **names: probe.Reply(
        ({'name': 'one', 'level': OK, 'text': 'x', 'cure': ''},), 'crashed (SIGILL)', ()))
    one, broken = probe.relayed('models')
    assert one == ok('one', 'x') and broken.level == PROBLEM and 'SIGILL' in broken.text


def test_processes_are_ended_with_their_children(tmp_path: Path) -> None:
    script = ('import subprocess, sys, time; child = subprocess.Popen(["sleep", "60"]); '
              f'open({str(tmp_path / "pid")!r}, "w").write(str(child.pid)); time.sleep(60)')
    reply = probe._reply([sys.executable, '-c', script], 2.0)
    assert reply.failed == 'gave no answer within 2 s'
    status = Path(f'/proc/{(tmp_path / "pid").read_text()}/status')
    deadline = time.monotonic() + 5
    while status.exists() and 'zombie' not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or 'zombie' in status.read_text()


# --- The whole --------------------------------------------------------------------------------------------------------

def test_the_whole_is_quick_and_its_exit_status_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert main(['doctor', '--json', '-']) == 1  # no models here
    told = json.loads(capfd.readouterr().out)
    assert told['version'] == pose3d_ros.__version__ and told['seconds'] < 20  # 1 s on two idle cores
    by_name = {(found['section'], found['name']): found for found in told['findings']}
    assert told['problems'] == sum(found['level'] == PROBLEM for found in told['findings']) >= 2
    assert told['notes'] == sum(found['level'] == NOTE for found in told['findings'])
    assert by_name['Engines', 'CPU']['text'].startswith('works: CPUExecutionProvider, fp32')
    assert 'pose3d fetch pose_detection' in by_name['Models', 'pose_detection']['cure']
    assert by_name['Software', 'numpy']['level'] == OK
    assert not re.search('Error|status', by_name['Engines', 'TensorRT']['text'])
    assert {found['section'] for found in told['findings']} == {
        'Computer', 'Software', 'ROS', 'Engines', 'Models', 'Cache'}


def test_a_numpy_that_crashes_is_found_and_not_shared(tmp_path: Path) -> None:
    make_package(tmp_path, 'numpy', 'import os; os.abort()')
    code = 'import sys; from pose3d_ros.cli.main import main; sys.exit(main(["doctor"]))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False, env={
        **os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'}, timeout=100)
    assert done.returncode == 1 and 'Traceback' not in done.stdout + done.stderr
    assert re.search(r'PROBLEM +numpy +installed, but cannot be imported: its import crashed \(SIGABRT\)', done.stdout)
    assert 'PROBLEM  CPU' in done.stdout and 'Cache' in done.stdout


@pytest.fixture
def two_sections(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Let the doctor look at these findings only; change them as needed."""
    findings = [ok('sound', 'fine'), note('odd', 'so so', 'do this')]
    monkeypatch.setattr(doctor, 'sections', lambda: [Section('First', lambda: findings), Section('Second', list)])
    return findings


def test_the_text_names_cures_and_has_no_colours_in_a_file(two_sections: list[Finding],
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['doctor']) == 0
    shown = capsys.readouterr().out
    assert 'cure: do this' in shown and 'OK       sound' in shown and '\033' not in shown
    assert shown.endswith('0 problems, 1 note\n')
    two_sections.append(problem('bad', 'broken', 'mend it'))
    assert main(['doctor', '--brief']) == 1
    shown = capsys.readouterr().out
    assert 'sound' not in shown and 'PROBLEM  bad' in shown and '1 problem, 1 note' in shown


def test_colours_are_for_terminals(two_sections: list[Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, 'isatty', lambda: True)
    monkeypatch.setattr(sys, 'stdout', terminal)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.delenv('NO_COLOR', raising=False)
    assert main(['doctor']) == 0 and '\033[32mOK' in terminal.getvalue()
    terminal.seek(0), terminal.truncate()
    monkeypatch.setenv('NO_COLOR', '1')
    assert main(['doctor']) == 0 and '\033' not in terminal.getvalue()


def test_json_goes_to_a_file_beside_the_text(two_sections: list[Finding], tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['doctor', '--json', str(tmp_path / 'd.json')]) == 0
    told = json.loads((tmp_path / 'd.json').read_text())
    assert told['findings'][1] == {'section': 'First', 'name': 'odd', 'level': NOTE, 'text': 'so so', 'cure': 'do this'}
    assert 'First' in capsys.readouterr().out
    (tmp_path / 'file').write_text('')
    assert main(['doctor', '--json', str(tmp_path / 'file' / 'd.json')]) == 1
    assert 'cannot write' in capsys.readouterr().err


# --- Computer ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty PATH and no devices; write nvidia-smi into the folder."""
    monkeypatch.setenv('PATH', str(tmp_path))
    for name in ('TEGRA_RELEASE', 'DEVICE_MODEL', 'DRIVER_VERSION', 'DEVICES'):
        monkeypatch.setattr(machine, name, tmp_path / name)
    return tmp_path


def smi(folder: Path, script: str) -> None:
    (folder / 'nvidia-smi').write_text(f'#!{sys.executable}\nimport sys, time\n{script}\n')
    (folder / 'nvidia-smi').chmod(0o755)


def test_no_gpu_is_no_fault(nvidia: Path) -> None:
    assert machine.find_gpus() == Gpus() and not Gpus().any
    assert worst(machine.computer(Gpus()), 'GPU').level == OK


def test_gpus_are_described_by_old_and_new_drivers(nvidia: Path) -> None:
    smi(nvidia, 'print("NVIDIA A, 550.1, 8192 MiB, 8.9\\nNVIDIA B, 550.1, 4096 MiB, 7.5")')
    assert machine.find_gpus().found == ('NVIDIA A, driver 550.1, 8192 MiB, compute capability 8.9',
                                         'NVIDIA B, driver 550.1, 4096 MiB, compute capability 7.5')
    smi(nvidia, 'sys.exit("Field \\"compute_cap\\" is not a valid field") if "cap" in sys.argv[1] else '
                'print("Old, 470.1, 2048 MiB")')
    assert machine.find_gpus().found == ('Old, driver 470.1, 2048 MiB',)


def test_a_driver_that_does_not_answer_is_a_problem(nvidia: Path) -> None:
    smi(nvidia, 'print("Failed to initialize NVML: Driver/library version mismatch"); sys.exit(18)')
    gpus = machine.find_gpus()
    assert not gpus.any and 'mismatch' in worst(machine.computer(gpus), 'GPU').text
    assert worst(machine.computer(gpus), 'GPU').level == PROBLEM
    smi(nvidia, 'time.sleep(30)')
    assert 'no answer within 0.5 s' in machine.find_gpus(0.5).fault
    (nvidia / 'nvidia-smi').unlink()
    (nvidia / 'DRIVER_VERSION').write_text('NVRM version')
    assert '--gpus all' in machine.find_gpus().cure


def test_a_jetson_is_known_by_its_release(nvidia: Path) -> None:
    (nvidia / 'TEGRA_RELEASE').write_text('# R36 (release), REVISION: 4.0, GCID: 1\nmore\n')
    (nvidia / 'DEVICE_MODEL').write_text('NVIDIA Jetson Orin Nano\0')
    gpus = machine.find_gpus()
    assert gpus.any and gpus.jetson.startswith('R36 (release), REVISION: 4.0') and gpus.found == (
        'NVIDIA Jetson Orin Nano',)


def test_a_clock_that_was_forgotten_is_a_problem() -> None:
    assert machine.clock(0.0, True).level == PROBLEM and 'timedatectl' in machine.clock(0.0, True).cure
    now = time.time() + 5
    assert [machine.clock(now, known).level for known in (True, None, False)] == [OK, OK, NOTE]


# --- Software ---------------------------------------------------------------------------------------------------------

def test_versions_are_those_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    wanted = {}
    for line in config['options']['install_requires'].split('\n')[1:]:
        if ';' in line:  # stands in for what the standard library has in later Pythons
            continue
        name, least, below = re.fullmatch(r'(\S+) >=([\d.]+)(?:,<([\d.]+))?', line.strip()).groups()  # type: ignore
        wanted[name] = (least, below or '')
    assert {package.pip: (package.least, package.below) for package in installed.PACKAGES} == wanted


CV2, ONNX = (next(each for each in installed.PACKAGES if each.module == name) for name in ('cv2', 'onnx'))


@pytest.mark.parametrize(('package', 'found', 'level', 'text', 'cure'), [
    (CV2, {'version': '4.9.0', 'file': '/x'}, OK, '4.9.0', ''),
    (CV2, {'version': '5.0.0', 'file': '/x'}, PROBLEM, '< 5 is needed', 'opencv-python-headless<5'),
    (CV2, {'version': '4.2.0', 'file': '/x'}, PROBLEM, '>= 4.5.4 is needed', 'opencv-python-headless>=4.5.4'),
    (CV2, {'error': "No module named 'cv2'"}, PROBLEM, 'not installed', "pip install 'opencv-python-headless<5'"),
    (CV2, {'error': 'libGL.so.1: cannot open'}, PROBLEM, 'libGL.so.1', '--force-reinstall'),
    (ONNX, {'error': "No module named 'onnx'"}, NOTE, 'needed to convert', "pip install 'onnx'"),
    (CV2, {'version': '4.9.0', 'file': str(Path.home() / '.local/lib/cv2/a.py')}, OK, 'before that of the system', '')])
def test_a_package_is_judged(package: installed.Package, found: dict[str, str], level: str, text: str,
                             cure: str) -> None:
    finding = installed.state_of(package, found, {})
    assert finding.level == level and text in finding.text and cure in finding.cure


def test_an_unsuitable_python_is_told() -> None:
    assert [installed.python(version).level for version in ((3, 8, 1), (3, 10, 0), (3, 13, 2), (3, 15, 0))] == [
        PROBLEM, OK, OK, NOTE]


@pytest.mark.parametrize(('packages', 'level', 'text'), [
    ({'onnxruntime': '1.2', 'onnxruntime-gpu': '1.2'}, PROBLEM, 'overwrite each other'),
    ({'opencv-python': '4.9', 'opencv-python-headless': '4.10'}, PROBLEM, 'overwrite each other'),
    ({'opencv-python': '4.9', 'opencv-python-headless': '4.9'}, NOTE, 'share their files'),
    ({'cv-bridge': '1.13.0'}, NOTE, 'ROS 1'),
    ({'onnxruntime': '1.2', 'onnxruntime-extensions': '0.9', 'opencv-python': '4.9'}, None, '')])
def test_clashing_packages_are_found(tmp_path: Path, packages: dict[str, str], level: str | None, text: str) -> None:
    for name, version in packages.items():
        make_distribution(tmp_path, name, version)
    found = list(installed.clashes(installed.distributions([str(tmp_path)])))
    assert [finding.level for finding in found] == ([level] if level else [])
    assert not found or (text in found[0].text and 'pip uninstall' in found[0].cure)


def test_packages_of_gpus_are_named() -> None:
    assert [found.level for found in installed.of_gpus({})] == [OK, OK]
    versions = {'tensorrt-cu12-bindings': '10.3', 'tensorrt-cu13-bindings': '10.14', 'cuda-python': '12.6'}
    found = list(installed.of_gpus(versions))
    assert 'tensorrt-cu13-bindings 10.14' in found[0].text and 'cuda-python 12.6' in found[1].text
    assert found[2].level == PROBLEM and 'pip uninstall -y tensorrt-cu12-bindings' in found[2].cure


def test_other_copies_of_this_package_are_found(tmp_path: Path) -> None:
    used = Path(pose3d_ros.__file__).parent
    same = tmp_path / 'same' / 'pose3d_ros'
    for file in used.rglob('*.py'):
        copy = same / file.relative_to(used)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    path = [str(used.parent), str(tmp_path / 'same'), str(tmp_path)]
    assert worst(installed.copies(path)).level == OK
    (same / 'pipeline.py').write_text('')
    assert worst(installed.copies(path)).level == NOTE and 'pipeline.py' in worst(installed.copies(path)).text
    (same / '__init__.py').write_text("__version__ = '0.0.1'\n")
    assert worst(installed.copies(path)).level == PROBLEM and '0.0.1' in worst(installed.copies(path)).text


# --- ROS --------------------------------------------------------------------------------------------------------------

ROS_ERRORS = {'rclpy': {'error': "No module named 'rclpy'"}}


def test_ros_that_is_not_there_is_a_note_and_half_sourced_a_problem(monkeypatch: pytest.MonkeyPatch,
                                                                   tmp_path: Path) -> None:
    monkeypatch.setattr(ros_environment, 'imports', lambda modules: ROS_ERRORS)
    monkeypatch.setattr(ros_environment, 'INSTALLATIONS', tmp_path)
    assert worst(ros_environment.ros({})).level == NOTE
    (tmp_path / 'jazzy').mkdir()
    (tmp_path / 'jazzy/setup.bash').touch()
    assert f'. {tmp_path}/jazzy/setup.bash' in worst(ros_environment.ros({})).cure
    assert worst(ros_environment.ros({'ROS_DISTRO': 'jazzy'})).level == PROBLEM
    other = worst(ros_environment.ros({'ROS_DISTRO': 'jazzy', 'PYTHONPATH': '/opt/ros/jazzy/lib/python3.4/x'}))
    assert other.level == PROBLEM and 'Python 3.4' in other.text
    broken = {'rclpy': {'error': 'librmw_none.so of rmw_none: cannot open'}}
    monkeypatch.setattr(ros_environment, 'imports', lambda modules: broken)
    assert worst(ros_environment.ros({})).level == PROBLEM
    assert 'rmw-none' in worst(ros_environment.ros({'RMW_IMPLEMENTATION': 'rmw_none'})).cure
    assert 'ROS 1' in worst(ros_environment.ros({'ROS_VERSION': '1', 'ROS_DISTRO': 'noetic'})).text


@pytest.mark.parametrize(('environment', 'level', 'text'), [
    ({}, PROBLEM, 'not set'), ({'AMENT_PREFIX_PATH': '{here}'}, OK, 'all there'),
    ({'AMENT_PREFIX_PATH': '{here}:{here}/gone'}, NOTE, 'gone'),
    ({'AMENT_PREFIX_PATH': '{here}/humble:{here}/jazzy'}, PROBLEM, 'mixes humble and jazzy'),
    ({'AMENT_PREFIX_PATH': '{here}', 'PYTHONPATH': '/opt/python3.4/site-packages'}, NOTE, 'Python 3.4')])
def test_traps_of_the_paths(environment: dict[str, str], level: str, text: str, tmp_path: Path,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_environment, 'INSTALLATIONS', tmp_path)
    found = worst(ros_environment.paths({key: value.format(here=tmp_path) for key, value in environment.items()}))
    assert found.level == level and text in found.text


@pytest.mark.parametrize(('environment', 'level'), [
    ({}, OK), ({'ROS_DOMAIN_ID': '42'}, OK), ({'ROS_DOMAIN_ID': '120'}, NOTE), ({'ROS_DOMAIN_ID': '300'}, PROBLEM),
    ({'ROS_DOMAIN_ID': 'robot'}, PROBLEM), ({'ROS_LOCALHOST_ONLY': '1'}, NOTE),
    ({'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}, NOTE)])
def test_traps_of_the_domain(environment: dict[str, str], level: str) -> None:
    assert worst(ros_environment.domain(environment)).level == level


def test_what_is_too_small_for_images_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_environment, 'RMEM_MAX', tmp_path / 'rmem_max')
    (tmp_path / 'rmem_max').write_text('212992\n')
    (tmp_path / 'small.xml').write_text('<segment_size>1000000</segment_size>')

    def found(name: str, **environment: str) -> Finding:
        return worst(ros_environment.large_images(environment), name)

    assert found('net.core.rmem_max').level == NOTE and 'sysctl' in found('net.core.rmem_max').cure
    (tmp_path / 'rmem_max').write_text('33554432\n')
    assert found('net.core.rmem_max').level == OK
    old, new = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
    good = str(ROOT / 'config/fastdds.xml')
    assert found('Fast DDS', **{new: good}).level == found('Fast DDS', ROS_DISTRO='humble', **{old: good}).level == OK
    assert found('Fast DDS', ROS_DISTRO='humble', **{new: good}).level == NOTE  # Humble does not read that one
    assert found('Fast DDS', **{new: str(tmp_path / 'small.xml')}).level == NOTE
    assert found('Fast DDS', **{new: str(tmp_path / 'gone.xml')}).level == PROBLEM
    with pytest.raises(AssertionError):
        found('Fast DDS', RMW_IMPLEMENTATION='rmw_cyclonedds_cpp')
    monkeypatch.setattr(ros_environment.shutil, 'disk_usage', lambda path: SimpleNamespace(free=1 << 20, total=1 << 26))
    assert found('/dev/shm').level == NOTE and '--shm-size' in found('/dev/shm').cure


def test_a_cv_bridge_of_another_numpy_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_package(tmp_path, 'cv_bridge', 'import sys\n'
                 'print("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4", file=sys.stderr)\n'
                 'raise AttributeError("_ARRAY_API not found")')
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = ros_environment._cv_bridge({'error': '_ARRAY_API not found'})
    assert finding.level == NOTE and 'NumPy 1' in finding.text and 'numpy<2' in finding.cure
    (tmp_path / 'cv_bridge/__init__.py').write_text('import os; os.abort()')
    assert 'SIGABRT' in ros_environment._cv_bridge({'error': 'its import crashed (SIGABRT)'}).text


def test_messages_that_are_not_built_are_a_problem() -> None:
    for error in ("No module named 'pose3d_ros.msg'", 'libfoo.so: undefined symbol'):
        assert ros_environment._messages({'error': error}).level == PROBLEM
    assert ros_environment._messages({'version': '', 'file': ''}).level == OK


def test_doctor_says_what_reads_tf() -> None:
    fine, missing, broken = {'file': ''}, {'error': "No module named 'tf2_ros'"}, {'error': 'libtf2.so: cannot open'}
    assert ros_environment.tf(fine, fine).level == OK and 'tf2_ros' in ros_environment.tf(fine, missing).text
    own = ros_environment.tf(missing, fine)
    assert own.level == OK and 'pose3d_ros itself' in own.text
    assert ros_environment.tf(broken, fine).level == NOTE and '--reinstall' in ros_environment.tf(broken, fine).cure
    neither = ros_environment.tf(missing, {'error': "No module named 'tf2_msgs'"})
    assert neither.level == NOTE and 'cannot be used' in neither.text and 'tf2-ros-py' in neither.cure
