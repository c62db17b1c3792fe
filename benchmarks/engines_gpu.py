#!/usr/bin/env python3
"""TensorRT on a GPU, every network: against ONNX Runtime on CUDA, PyTorch eager and compiled, and what physics allows.

    python benchmarks/engines_gpu.py [--json FILE] [--networks NAME...] [--batches N...]

Each time is measured twice. `p50_ms`: from arrays of the host to arrays of the host, as a node needs it, copies
included. `gpu_p50_ms`: what lies on the GPU already, computed again. Ratios are time over time, so that less than 1
says that the first named is faster; candidates take turns, and the median over the rounds counts. Ratios against
PyTorch take its fastest variant of that size, in half or full precision, compiled with CUDA graphs; that against
ONNX Runtime is half against full precision. The BlazePose
networks in PyTorch come from their ONNX files (onnx_in_torch.py), channels last. The floor is that of gpu_floor.py,
activations moved once; small networks lie far above it because starting a layer takes longer than computing it.
Exit code 2 where there is no GPU or no TensorRT.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from gpu_candidates import (  # noqa: E402
    FP16,
    FP32,
    ORT,
    Figures,
    Network,
    add_onnx_runtime,
    add_tensorrt,
    add_torch,
    open_network,
)
from gpu_floor import Peaks, measure_peaks, work_of  # noqa: E402
from paired import geometric_mean, paired, ratio  # noqa: E402

from pose3d_ros.cli.figures import add_json_option, print_table, write_json  # noqa: E402
from pose3d_ros.runtime.store import ModelMissing  # noqa: E402
from pose3d_ros.runtime.trt.backend import TensorRTBackend  # noqa: E402
from pose3d_ros.runtime.trt.gpu import find_gpu  # noqa: E402

NETWORKS = ('pose_detection', 'pose_landmark_lite', 'pose_landmark_full', 'pose_landmark_heavy', 'lifter',
            'published_1024')
def measure(network: Network, count: int, seconds: float, rounds: int, peaks: Peaks | None) -> Figures:
    """Return the figures of one number of people; a candidate that fails is told and left out."""
    inputs = network.inputs(count)
    runs: dict[str, Callable[[], object]] = {}
    again: dict[str, Callable[[], object]] = {}
    for name, candidate in network.candidates.items():
        try:
            candidate.run(inputs)
            runs[name] = lambda candidate=candidate: candidate.run(inputs)
            if candidate.again is not None:
                again[name] = candidate.again(inputs)
                again[name]()
        except Exception as error:  # compilers raise what they like; the others are measured all the same
            print(f'{name}.{network.name}: not measured for {count} at once: {" ".join(str(error).split())[:200]}')
            runs.pop(name, None)
            again.pop(name, None)
    figures: Figures = {}
    for calls, kind in ((runs, ''), (again, 'gpu_')):
        series = paired(calls, seconds * len(calls), rounds) if calls else {}
        for name, times in series.items():
            for share in (50, 95):
                figures[f'{name}.{network.name}.batch_{count}_{kind}p{share}_ms'] = times.percentile(share)
        compiled = min((name for name in series if name.startswith('torch_compiled')),
                       key=lambda name: series[name].percentile(50), default='')
        eager = min((name for name in series if name.startswith('torch_eager')),
                    key=lambda name: series[name].percentile(50), default='')
        others = {'torch_compiled': compiled, 'torch_eager': eager, 'ort_cuda': ORT, FP32: FP32}
        for other, name in others.items():
            if FP16 in series and name in series:
                figures[f'ratios.{network.name}.batch_{count}_{kind}trt_fp16_vs_{other}_ratio'] = ratio(
                    series[FP16], series[name])
    if peaks is not None:
        figures |= _floor(network, count, peaks, figures)
    return figures


def _floor(network: Network, count: int, peaks: Peaks, figures: Mapping[str, float]) -> Figures:
    try:
        work = work_of(network.path, count)
    except ValueError as error:
        print(error)
        return {}
    found: Figures = {}
    for name, size in ((FP16, 2), (FP32, 4)):
        place = f'{name}.{network.name}.batch_{count}'
        found[f'{place}_floor_ms'] = work.floor_ms(peaks, size, activations=True)
        found[f'{place}_floor_on_chip_ms'] = work.floor_ms(peaks, size, activations=False)
        if f'{place}_gpu_p50_ms' in figures:
            found[f'ratios.{network.name}.batch_{count}_{name}_vs_floor_ratio'] = (
                figures[f'{place}_gpu_p50_ms'] / found[f'{place}_floor_ms'])
    return found


def overall(figures: Mapping[str, Any]) -> Figures:
    """Return the ratios over all networks and sizes, their geometric mean: on the GPU alone, and with copies."""
    result: Figures = {}
    for target, ending in (
            ('trt_fp16_vs_torch_compiled_ratio', '_gpu_trt_fp16_vs_torch_compiled_ratio'),
            ('trt_fp16_vs_torch_eager_ratio', '_gpu_trt_fp16_vs_torch_eager_ratio'),
            ('trt_fp16_vs_trt_fp32_ratio', '_gpu_trt_fp16_vs_trt_fp32_ratio'),
            ('trt_fp16_vs_floor_ratio', '_trt_fp16_vs_floor_ratio'),
            ('trt_fp32_vs_floor_ratio', '_trt_fp32_vs_floor_ratio'),
            ('trt_fp16_vs_ort_cuda_ratio', '_trt_fp16_vs_ort_cuda_ratio')):
        values = [value for key, value in figures.items() if key.startswith('ratios.') and key.endswith(ending)]
        if values:
            result[target] = geometric_mean(values)
    passed = [value for key, value in figures.items() if key.startswith(f'{FP16}.') and key.endswith('.check_passed')]
    return result | {'trt_fp16_checks_passed': sum(passed), 'trt_fp16_checks': len(passed)}


def figures_of(args: argparse.Namespace, torch: Any) -> Figures:
    """Return all figures."""
    backend, gpu = TensorRTBackend(), find_gpu()
    target = backend.target()
    figures: Figures = {'gpu': gpu.name, 'capability': gpu.capability, 'tensorrt': target.version,
                        'torch': torch.__version__ if torch is not None else 'not there'}
    peaks = measure_peaks(torch) if torch is not None else None
    if peaks is not None:
        figures |= {'bandwidth_gb_s': peaks.bandwidth / 1e9, 'peak_fp16_tflops': peaks.half / 1e12,
                    'peak_fp32_tflops': peaks.full / 1e12}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks:
            try:
                network = open_network(name, Path(folder), torch)
            except (ModelMissing, ImportError) as error:
                print(f'{name}: left out: {error}')
                continue
            add_tensorrt(network, backend, max(args.batches), figures)
            if reason := add_onnx_runtime(network):
                print(f'{ORT}.{name}: {reason}')
            add_torch(network, torch, args.compile_mode)
            for count in args.batches:
                figures |= measure(network, count, args.seconds, args.rounds, peaks)
            for candidate in network.candidates.values():
                candidate.close()
    return overall(figures) | figures


def torch_with_cuda() -> Any:
    """Return the module, None where it is not there or has no CUDA."""
    try:
        torch = importlib.import_module('torch')
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 2, 4, 8], help='default: 1 2 4 8')
    parser.add_argument('--seconds', type=float, default=0.5, help='of each candidate and size (default: 0.5)')
    parser.add_argument('--rounds', type=int, default=5, help='default: 5')
    parser.add_argument('--compile-mode', default='reduce-overhead', help='of torch.compile; max-autotune takes long')
    add_json_option(parser)
    args = parser.parse_args(arguments)
    if reason := TensorRTBackend().why_not():
        print(f'nothing is measured: {reason}', file=sys.stderr)
        return 2
    torch = torch_with_cuda()
    if torch is None:
        print('PyTorch with CUDA is not there: no comparison with it, and no floor')
    figures = figures_of(args, torch)
    print_table([['figure', 'value'], *([key, f'{value:.3f}' if isinstance(value, float) else str(value)]
                                        for key, value in figures.items())])
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == '__main__':
    sys.exit(main())
