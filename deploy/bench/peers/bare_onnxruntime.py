"""onnxruntime in-process: the most that any server around it could reach. The counterpart of `millgate-load engine`.

    python bare_onnxruntime.py --file model.onnx --threads 1,2 --batch 1,8,32 --seconds 0.5

A line of JSON for each number of threads and each batch. Each thread has a session of one thread.
"""

import argparse
import json
import pathlib
import statistics
import threading
import time

import numpy as np
from sessions import session

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
# Below every vocabulary among the models.
INTEGERS_BELOW = 1000


def inputs(of, rows):
    random = np.random.default_rng(1)
    made = {}
    for port in of.get_inputs():
        shape = [axis if isinstance(axis, int) else (rows if at == 0 else 1) for at, axis in enumerate(port.shape)]
        kind = TYPES[port.type]
        values = random.integers(0, INTEGERS_BELOW, shape) if kind is np.int64 else random.uniform(-1, 1, shape)
        made[port.name] = values.astype(kind)
    return made


def run(of, feed, seconds, start, times):
    of.run(None, feed)
    start.wait()
    end = time.perf_counter() + seconds
    before = time.perf_counter()
    while before < end:
        of.run(None, feed)
        after = time.perf_counter()
        times.append(after - before)
        before = after


def measure(sessions, rows, seconds):
    feed, start = inputs(sessions[0], rows), threading.Barrier(len(sessions) + 1)
    times = [[] for _ in sessions]
    threads = [threading.Thread(target=run, args=(of, feed, seconds, start, own)) for of, own in zip(sessions, times)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    calls = [call for own in times for call in own]
    return {
        "threads": len(sessions),
        "batch": rows,
        "items_per_second": len(calls) * rows / took,
        "call_us_p50": statistics.median(calls) * 1e6,
    }


def main():
    numbers = lambda text: [int(number) for number in text.split(",")]
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--file", type=pathlib.Path, required=True)
    flags.add_argument("--threads", type=numbers, default=[1])
    flags.add_argument("--batch", type=numbers, default=[1, 2, 4, 8, 16, 32])
    flags.add_argument("--seconds", type=float, default=0.5)
    flags = flags.parse_args()
    sessions = [session(flags.file) for _ in range(max(flags.threads))]
    for threads in flags.threads:
        for rows in flags.batch:
            print(json.dumps({"engine": "onnxruntime", **measure(sessions[:threads], rows, flags.seconds)}), flush=True)


if __name__ == "__main__":
    main()
