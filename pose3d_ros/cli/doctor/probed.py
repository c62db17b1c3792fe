"""The questions of cli/probe.py, answered in a process of its own: a line of JSON per answer.

Whatever needs more than Python's own library is imported here: NumPy alone can crash a process (an OpenBLAS for another
processor does so on Jetsons), and the doctor is for such days.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

Said = dict[str, Any]


def answer(question: str, argument: Any) -> None:
    """Answer on what was standard output; whatever libraries print there goes to standard error."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for said in QUESTIONS[question](argument):
        print(json.dumps(said), file=answers, flush=True)
    sys.stderr.flush()
    os._exit(0)  # libraries of GPUs and ROS sometimes crash while they are taken down, which would say nothing


def _imports(modules: list[str]) -> Iterator[Said]:
    for name in modules:
        yield {'module': name}  # so that a crash has a name
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            yield {'module': name, 'error': _reason(error)}
        else:
            yield {'module': name, 'version': str(getattr(module, '__version__', '')),
                   'file': str(getattr(module, '__file__', None) or '')}


def _cv_bridge(_: None) -> Iterator[Said]:
    """Use the compiled half of cv_bridge, which is where it breaks."""
    import numpy as np

    bridge = importlib.import_module('cv_bridge').CvBridge()  # no import: it is no dependency of this package
    bridge.encoding_to_cvtype2('bgr8')
    message = bridge.cv2_to_imgmsg(np.zeros((2, 2, 3), np.uint8), 'bgr8')
    yield {'works': bridge.imgmsg_to_cv2(message, 'rgb8').shape == (2, 2, 3)}


def _rmw(_: None) -> Iterator[Said]:
    import rclpy

    yield {'rmw': rclpy.get_rmw_implementation_identifier()}
    rclpy.init(args=[])
    rclpy.create_node('pose3d_doctor', enable_rosout=False, start_parameter_services=False).destroy_node()
    yield {'works': True}


def _engine(runtime: str) -> Iterator[Said]:
    from pose3d_ros.lift import lifter_file
    from pose3d_ros.runtime.engine import EngineError, Wanted
    from pose3d_ros.runtime.opening import open_engine

    try:
        yield _run(open_engine(lifter_file(), Wanted(runtime, threads=1)))
    except EngineError as error:
        yield {'error': _reason(error)}


def _tensorrt(_: None) -> Iterator[Said]:
    """Open the lifter's engine as the nodes do; it is built where it is not in the cache yet."""
    from pose3d_ros.runtime.trt.backend import TensorRTBackend

    backend = TensorRTBackend()
    if reason := backend.why_not():
        yield {'why_not': reason}
    else:
        yield {'target': asdict(backend.target())}
        yield from _engine('tensorrt')


def _models(_: None) -> Iterator[Said]:
    from pose3d_ros.cli.doctor import caches
    from pose3d_ros.runtime.store import ModelStore

    yield from map(asdict, caches.models(ModelStore()))
    yield from map(asdict, caches.lifters())


def _cache(_: None) -> Iterator[Said]:
    from pose3d_ros.cli.doctor import caches
    from pose3d_ros.runtime.store import default_cache_dir

    yield from map(asdict, caches.folder(default_cache_dir()))


def _kept(target: dict[str, str] | None) -> Iterator[Said]:
    from pose3d_ros.cli import networks
    from pose3d_ros.cli.doctor import caches
    from pose3d_ros.runtime.backend import Target
    from pose3d_ros.runtime.cache import EngineCache

    cache, here, at_hand = EngineCache(), None if target is None else Target(**target), networks.at_hand()
    yield from map(asdict, caches.kept(cache, here, at_hand))
    if here is not None:
        ours = [networks.network(name, networks.MAX_PEOPLE, 1) for name in networks.DEFAULT if name in at_hand]
        yield from map(asdict, caches.unbuilt(cache, here, ours))


def _run(engine: Any) -> Said:
    import numpy as np

    engine.warm_up()
    people = {name: np.zeros([size or 1 for size in shape], np.float32) for name, shape in engine.input_shapes.items()}
    people['stature'][:] = 1.7, 0.1
    started = time.perf_counter()
    outputs = engine.run(people)
    milliseconds = 1e3 * (time.perf_counter() - started)
    finite = all(bool(np.isfinite(output).all()) for output in outputs.values())
    return {'provider': engine.provider, 'precision': engine.precision, 'ms': milliseconds, 'finite': finite,
            'remarks': list(engine.remarks)}


def _reason(error: BaseException) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


QUESTIONS: dict[str, Callable[[Any], Iterator[Said]]] = {
    'imports': _imports, 'cv_bridge': _cv_bridge, 'rmw': _rmw, 'engine': _engine, 'tensorrt': _tensorrt,
    'models': _models, 'cache': _cache, 'kept': _kept}
