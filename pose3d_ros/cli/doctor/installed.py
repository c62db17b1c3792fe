"""What is installed: Python and its packages, their known clashes, and copies of this package that hide each other."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pose3d_ros
from pose3d_ros.cli.doctor.findings import Finding, note, ok, problem
from pose3d_ros.cli.doctor.probe import imports

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)


@dataclass(frozen=True)
class Package:
    """A package by the module it gives. least, below: versions it has to have; purpose: '' for what every robot needs.

    pip: what installs it.
    """

    module: str
    pip: str
    least: str = ''
    below: str = ''
    purpose: str = ''


# Versions as in setup.cfg (a test compares them).
PACKAGES = (
    Package('numpy', 'numpy', '1.21.5'),
    Package('scipy', 'scipy', '1.8'),
    Package('cv2', 'opencv-python-headless', '4.5.4', '5'),
    Package('onnxruntime', 'onnxruntime', '1.16'),
    Package('tqdm', 'tqdm', '4.57'),
    Package('yaml', 'pyyaml', '5.4'),
    Package('onnx', 'onnx', '1.14', purpose='to convert models (pose3d fetch) and to build engines in half precision'),
    Package('tflite', 'tflite', '2.10', purpose='to convert models (pose3d fetch)'),
    Package('rosbags', 'rosbags', '0.11', purpose='to calibrate from recordings'),
)
_OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')


def software() -> Iterator[Finding]:
    """Look at Python, the packages, and what they do to each other."""
    yield python(sys.version_info[:3])
    versions = distributions(sys.path)
    found = imports([package.module for package in PACKAGES])
    for package in PACKAGES:
        yield state_of(package, found[package.module], versions)
    yield ok('PyTorch', versions.get('torch', 'not installed; only training and export need it'))
    yield from of_gpus(versions)
    yield from clashes(versions)
    yield (ok('npm', 'installed') if shutil.which('npm') else
           ok('npm', 'not installed; only `pose3d fetch lite heavy` needs it'))
    yield from copies(sys.path)


def python(version: Sequence[int]) -> Finding:
    """Look at the version of the interpreter."""
    text = f'{".".join(map(str, version))} at {sys.executable}'
    if tuple(version[:2]) < OLDEST_PYTHON:
        return problem('Python', text, f'use Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer')
    if tuple(version[:2]) > NEWEST_PYTHON:
        return note('Python', f'{text}; tried up to {NEWEST_PYTHON[0]}.{NEWEST_PYTHON[1]}')
    return ok('Python', text)


def distributions(path: Sequence[str]) -> dict[str, str]:
    """Return the versions of what pip or apt have installed, by lower-case name; of two, the one found first."""
    versions: dict[str, str] = {}
    for found in metadata.distributions(path=list(path)):
        name = found.metadata['Name'] if found.metadata else None  # None: a half-removed package
        if name:
            versions.setdefault(re.sub(r'[-_.]+', '-', name).lower(), str(found.version or '?'))
    return versions


def state_of(package: Package, found: Mapping[str, str], versions: Mapping[str, str]) -> Finding:
    """Say what an import gave. found: of probe.imports; versions: of distributions."""
    name = package.module
    if 'error' in found:
        missing = found['error'] == f'No module named {name!r}'
        text = 'not installed' if missing else f'installed, but cannot be imported: {found["error"]}'
        cure = f"pip install '{package.pip}{'<' + package.below if package.below else ''}'"
        cure = cure if missing else f'{cure} --force-reinstall'
        if not package.purpose:
            return problem(name, text, cure)
        return note(name, f'{text}; needed {package.purpose}', cure)
    version = found['version'] or versions.get(package.pip, '')
    text = (version or 'version not known') + _from_home(found['file'])
    for wrong, limit, word in ((package.least and numbers(version) < numbers(package.least), package.least, '>='),
                               (package.below and numbers(version) >= numbers(package.below), package.below, '<')):
        if version and wrong:
            return problem(name, f'{text}, but {word} {limit} is needed', f"pip install '{package.pip}{word}{limit}'")
    return ok(name, text)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (1, 21, 5)."""
    return tuple(int(part) for part in re.findall(r'\d+', version.split('+')[0])[:3])


def of_gpus(versions: Mapping[str, str]) -> Iterator[Finding]:
    """Name the packages that only NVIDIA machines need; whether they work is tried by running an engine."""
    for title, names in (('TensorRT', [name for name in versions if name.split('-')[0] == 'tensorrt']),
                         ('CUDA', [name for name in ('cuda-python', 'cuda-bindings') if name in versions])):
        listed = ', '.join(f'{name} {versions[name]}' for name in sorted(names))
        yield ok(title, listed or 'no Python package installed; only NVIDIA machines use one')
    bindings = sorted(name for name in versions if re.fullmatch(r'tensorrt-cu\d+-bindings', name))
    if len(bindings) > 1:
        yield problem('TensorRT', f'{" and ".join(bindings)} are both installed and overwrite each other',
                      f'pip uninstall -y {" ".join(bindings)}, then install the one for the CUDA of the driver')


def clashes(versions: Mapping[str, str]) -> Iterator[Finding]:
    """Find packages that overwrite each other's files. versions: of distributions()."""
    runtimes = [name for name in versions if name == 'onnxruntime' or name.startswith('onnxruntime-')]
    runtimes = [name for name in runtimes if name in ('onnxruntime', 'onnxruntime-gpu', 'onnxruntime-openvino',
                                                      'onnxruntime-directml', 'onnxruntime-training')]
    if len(runtimes) > 1:
        yield problem('onnxruntime', f'{" and ".join(sorted(runtimes))} are both installed and overwrite each other: '
                                     'the GPU may be there or not, as the last one left it',
                      f'pip uninstall -y {" ".join(sorted(runtimes))}, then install the one that is wanted')
    opencv = {name: versions[name] for name in _OPENCV if name in versions}
    if len(opencv) > 1:
        listed = ', '.join(f'{name} {version}' for name, version in opencv.items())
        cure = f'pip uninstall -y {" ".join(opencv)}, then pip install "opencv-python-headless<5"'
        if len(set(opencv.values())) > 1:
            yield problem('OpenCV', f'{listed} overwrite each other', cure)
        else:
            yield note('OpenCV', f'{listed} share their files: removing one breaks the other', cure)
    if 'cv-bridge' in versions and numbers(versions['cv-bridge'])[:1] == (1,):
        yield note('cv_bridge', f'cv-bridge {versions["cv-bridge"]} from pip is that of ROS 1 and hides that of ROS 2',
                   'pip uninstall cv-bridge; apt install ros-$ROS_DISTRO-cv-bridge where other nodes need it')


def copies(path: Sequence[str]) -> Iterator[Finding]:
    """Say which pose3d_ros is in use, and which others Python could find on the path."""
    used = Path(pose3d_ros.__file__).resolve().parent
    yield ok('pose3d_ros', f'{pose3d_ros.__version__} at {used}')
    seen = {used}
    for entry in path:
        other = (Path(entry or '.') / 'pose3d_ros').absolute()
        real = other.resolve()
        if real in seen or not (other / '__init__.py').is_file():
            continue
        seen.add(real)
        version = _version(other)
        if version != pose3d_ros.__version__:
            yield problem('pose3d_ros', f'another one, version {version or "unknown"}, is on the path at {other}: '
                                        'nodes and commands may mix the two',
                          'uninstall the one that is not wanted, or build the workspace again')
        elif changed := _differing(used, other):
            yield note('pose3d_ros', f'{other} differs from the one in use in {len(changed)} files '
                                     f'({", ".join(changed[:3])}{", ..." if len(changed) > 3 else ""})',
                       "build the workspace again ('colcon build', in a checkout 'make build')")


def _version(folder: Path) -> str:
    found = re.search(r"^__version__ = '([^']*)'", (folder / '__init__.py').read_text(errors='replace'), re.MULTILINE)
    return found.group(1) if found else ''


def _differing(used: Path, other: Path) -> list[str]:
    def content(file: Path) -> bytes:
        return hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b''

    sources = sorted(file.relative_to(used) for file in used.rglob('*.py'))
    return [str(name) for name in sources if content(used / name) != content(other / name)]


def _from_home(file: str) -> str:
    """Tell what `pip install --user` has put in front of the system's: on robots the usual reason for a clash."""
    user = Path.home() / '.local'
    return f', from {user}, before that of the system' if file and user in Path(file).parents else ''
