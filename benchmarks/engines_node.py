"""One node's engine in a process of its own: engines.py starts one or two of them on the same cores.

    python engines_node.py MODEL SETTINGS      SETTINGS: JSON, see sessions.py

It answers {memory_mb} when it is ready, then {ms, cpu_ms} for every line {seconds, pause_s}: the milliseconds of each
call, and its processor time per call.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from sessions import Settings, inputs_of, open_session

from pose3d_ros.cli.bench.worker import status_mb

_WARM_UP = 5


def main() -> None:
    """Open, then answer every line."""
    before = status_mb('VmRSS')
    session = open_session(Path(sys.argv[1]), Settings(**json.loads(sys.argv[2])))
    inputs = inputs_of(session, 1)
    for _ in range(_WARM_UP):
        session.run(None, inputs)
    print(json.dumps({'memory_mb': status_mb('VmHWM') - before}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        times: list[float] = []
        busy, end = time.process_time(), time.perf_counter() + asked['seconds']
        while time.perf_counter() < end:
            if asked['pause_s']:
                time.sleep(asked['pause_s'])
            start = time.perf_counter()
            session.run(None, inputs)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({'ms': times, 'cpu_ms': 1e3 * (time.process_time() - busy) / len(times)}), flush=True)


if __name__ == '__main__':
    main()
