"""The computer: processor, memory, GPU with its driver, Jetson release, clock."""

from __future__ import annotations

import csv
import ctypes
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pose3d_ros
from pose3d_ros.cli.doctor.findings import Finding, note, ok, problem
from pose3d_ros.cli.doctor.probe import output_of

TEGRA_RELEASE = Path('/etc/nv_tegra_release')
DEVICE_MODEL = Path('/proc/device-tree/model')
DRIVER_VERSION = Path('/proc/driver/nvidia/version')
DEVICES = Path('/dev')
_LEAST_MEMORY = 1 << 30
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


@dataclass(frozen=True)
class Gpus:
    """NVIDIA GPUs. found: a line for each; jetson: its release, ''; fault, cure: why one that is there is mute."""

    found: tuple[str, ...] = ()
    jetson: str = ''
    fault: str = ''
    cure: str = ''

    @property
    def any(self) -> bool:
        """Whether there is a GPU that works, as far as can be seen without using it."""
        return bool(self.found or self.jetson) and not self.fault


def find_gpus(limit_s: float = 5.0) -> Gpus:
    """Ask the driver. Raises nothing; no GPU is no fault."""
    jetson = ' '.join(_first_line(TEGRA_RELEASE).strip('# ').split())
    if jetson:
        return Gpus((_first_line(DEVICE_MODEL).strip('\0') or 'Jetson',), jetson)
    present = DRIVER_VERSION.exists() or any(DEVICES.glob('nvidia[0-9]*'))
    if shutil.which('nvidia-smi') is None:
        if present:
            return Gpus(fault='there is an NVIDIA GPU, but not nvidia-smi, which comes with its driver',
                        cure='install the driver; in a container, start it with --gpus all and '
                             'NVIDIA_DRIVER_CAPABILITIES=compute,utility')
        return Gpus()
    query = 'name,driver_version,memory.total,compute_cap'
    said, failed = output_of(['nvidia-smi', f'--query-gpu={query}', '--format=csv,noheader'], limit_s=limit_s)
    if failed and 'compute_cap' in failed:  # drivers before 510 do not know it
        said, failed = output_of(['nvidia-smi', f'--query-gpu={query.rpartition(",")[0]}', '--format=csv,noheader'],
                                 limit_s=limit_s)
    if failed:
        if not present and 'No devices' in failed:
            return Gpus()
        return Gpus(fault=f'nvidia-smi does not work: {failed}',
                    cure='after an update of the driver restart the computer; in a container, start it with --gpus all')
    rows = [[cell.strip() for cell in row] for row in csv.reader(said.splitlines()) if len(row) >= 3]
    return Gpus(tuple(f'{row[0]}, driver {row[1]}, {row[2]}' + (f', compute capability {row[3]}' if row[3:] else '')
                      for row in rows))


def computer(gpus: Gpus) -> Iterator[Finding]:
    """Look at the computer."""
    yield ok('system', f'{platform.platform()}, {platform.machine()}')
    yield ok('processor', f'{len(os.sched_getaffinity(0))} cores for this process, of {os.cpu_count()}')
    yield from _memory()
    if gpus.fault:
        yield problem('GPU', gpus.fault, gpus.cure)
    for line in gpus.found:
        yield ok('GPU', line)
    if gpus.jetson:
        yield ok('Jetson', gpus.jetson)
    if not (gpus.found or gpus.fault):
        yield ok('GPU', 'no NVIDIA GPU; networks run on the CPU')
    yield clock(time.time(), _synchronised())


def clock(now_s: float, synchronised: bool | None) -> Finding:
    """Look at the clock: stamps of several computers are compared, and TLS fails with a wrong date."""
    born_s = Path(pose3d_ros.__file__).stat().st_mtime
    text = time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(now_s))
    if now_s < born_s - 86400:
        return problem('clock', f'{text} lies before the day on which this package was installed',
                       'set the clock (timedatectl set-ntp true); a Jetson without a battery forgets it when switched '
                       'off')
    if synchronised is False:
        return note('clock', f'{text}, not synchronised; matters where images or TF come from another computer',
                    'timedatectl set-ntp true, or chrony on all computers of the robot')
    return ok('clock', text + (', synchronised' if synchronised else ''))


def _memory() -> Iterator[Finding]:
    sizes = {}
    for line in Path('/proc/meminfo').read_text().splitlines():
        name, _, rest = line.partition(':')
        if rest.split():
            sizes[name] = int(rest.split()[0]) << 10
    free, whole = sizes.get('MemAvailable', 0), sizes.get('MemTotal', 0)
    text = f'{free / 1e9:.1f} GB of {whole / 1e9:.1f} GB free'
    yield ok('memory', text) if free >= _LEAST_MEMORY else note(
        'memory', f'{text}; building TensorRT engines may fail', 'close other programs, or add swap while building')


def _synchronised() -> bool | None:
    """Ask the kernel, which knows it from any time service; None where it does not tell."""
    buffer = ctypes.create_string_buffer(1024)  # struct timex with modes = 0 (read only), with room to spare
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def _first_line(file: Path) -> str:
    try:
        return file.read_text(errors='replace').partition('\n')[0].strip()
    except OSError:
        return ''
