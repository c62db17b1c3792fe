"""Which engines work: each is opened and run on the lifter that comes with the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from pose3d_ros.cli.doctor.findings import Finding, note, ok, problem
from pose3d_ros.cli.doctor.installed import distributions
from pose3d_ros.cli.doctor.machine import Gpus
from pose3d_ros.cli.doctor.probe import Reply, ask, relayed

LIMIT_S = 240.0      # with a GPU: the lifter's engine may have to be built
_BUILD_S, _GPU_S, _CPU_S = 180.0, 40.0, 15.0


def engines(gpus: Gpus) -> Iterator[Finding]:
    """Try all runtimes, say which one 'auto' takes, and list the engines in the cache."""
    working = []
    cpu = ask('engine', 'cpu', limit_s=_CPU_S)
    if _works(cpu):
        working.append('the CPU')
    yield ok('CPU', _text(cpu)) if _works(cpu) else problem(
        'CPU', _text(cpu), 'put right the problems under Software; else pip install --force-reinstall onnxruntime')
    cuda = ask('engine', 'cuda', limit_s=_GPU_S)
    if _works(cuda):
        working.append('ONNX Runtime with CUDA')
    yield ok('CUDA', _text(cuda)) if _works(cuda) else cuda_missing(_text(cuda), gpus)
    target, finding = _tensorrt(gpus)
    if target is not None and finding.level == 'ok':
        working.append('TensorRT')
    yield finding
    if working:
        yield ok('runtime: auto', f'takes {working[-1]}')
    yield from relayed('kept', target)


def cuda_missing(reason: str, gpus: Gpus) -> Finding:
    """Say what it means that CUDA cannot be used."""
    reason = reason.partition(': install')[0]
    if 'onnxruntime-gpu' in distributions(sys.path):
        cure = ('nvidia-smi shows what CUDA the driver can; take the onnxruntime-gpu for it, with cuDNN, or '
                'pip uninstall onnxruntime-gpu && pip install onnxruntime')
        text = f'onnxruntime-gpu is installed, but {reason}'
        return problem('CUDA', text, cure) if gpus.any else note('CUDA', f'{text} (there is no GPU)', cure)
    if gpus.any:
        return note('CUDA', f'{reason}; only needed where TensorRT cannot be used',
                    'pip uninstall onnxruntime && pip install onnxruntime-gpu (Jetson: the wheel for its JetPack)')
    return ok('CUDA', f'not usable: {reason}')


def _tensorrt(gpus: Gpus) -> tuple[dict[str, str] | None, Finding]:
    reply = ask('tensorrt', limit_s=_BUILD_S if gpus.any else _GPU_S)
    told: dict[str, Any] = {}
    for said in reply.answers:
        told.update(said)
    target = told.get('target')
    if told.get('why_not'):
        reason = told['why_not']
        return None, note('TensorRT', f'not usable: {reason}', 'docs/tensorrt.md') if gpus.any else ok(
            'TensorRT', f'not usable: {reason}')
    if _works(reply):
        version = '{version} on {device} {capability}, '.format(**target) if target else ''
        return target, ok('TensorRT', version + _text(reply))
    grave = problem if gpus.any else note
    return target, grave('TensorRT', _text(reply), 'pose3d build-engines lifter tells more; docs/engines.md')


def _works(reply: Reply) -> bool:
    return not reply.failed and bool(reply.answers) and bool(reply.answers[-1].get('finite'))


def _text(reply: Reply) -> str:
    """Say how the lifter ran, or why it did not."""
    if reply.failed:
        return f'the lifter {reply.failed}'
    said = reply.answers[-1] if reply.answers else {'error': 'no answer'}
    if 'error' in said:
        return str(said['error'])
    if not said['finite']:
        return f'{said["provider"]} computes values that are not finite'
    return f'works: {said["provider"]}, {said["precision"]}, {said["ms"]:.2f} ms for one person'
