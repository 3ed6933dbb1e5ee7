"""Measures a running detector: latency of one run and its parts, and runs per second.

    .cache/venv/bin/python examples/detector/build.py --timed models
    .cache/venv/bin/python examples/detector/measure.py

needs bundles built with ``--timed``. The hook reports its own steps; queueing, transfers and execution of
the two networks come from the server's metrics.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.grpc as triton
from images import draw_image

SERIES = re.compile(r'worker_stage_latency_seconds_(sum|count)\{.*model="([^"]+)",stage="([^"]+)".*\} (\S+)')


def infer(client: triton.InferenceServerClient, image: np.ndarray) -> dict[str, float]:
    """One run; milliseconds by step."""
    tensor = triton.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    return json.loads(client.infer("detector", [tensor]).as_numpy("timings")[0])


def stages(metrics: str) -> dict[str, tuple[float, float]]:
    """Seconds and number of observations so far, by model and stage."""
    totals: dict[str, dict[str, float]] = defaultdict(dict)
    with urllib.request.urlopen(f"http://{metrics}/metrics") as response:
        for kind, model, stage, value in SERIES.findall(response.read().decode()):
            totals[f"{model} {stage}"][kind] = float(value)
    return {name: (values["sum"], values["count"]) for name, values in totals.items()}


def measure_one(url: str, metrics: str, image: np.ndarray, runs: int) -> None:
    """Prints where the time of runs one after the other goes."""
    steps: dict[str, list[float]] = defaultdict(list)
    with triton.InferenceServerClient(url) as client:
        for _ in range(runs // 4):
            infer(client, image)
        before = stages(metrics)
        for _ in range(runs):
            start = time.perf_counter()
            timings = infer(client, image)
            steps["client"].append((time.perf_counter() - start) * 1000)
            for step, spent in timings.items():
                steps[step].append(spent)
        after = stages(metrics)
    for step, spent in sorted(steps.items(), key=lambda item: -statistics.median(item[1])):
        print(f"{statistics.median(spent):8.3f} ms  {step}")
    for name in sorted(set(after) & set(before)):
        seconds, count = (new - old for new, old in zip(after[name], before[name], strict=True))
        if count:
            print(f"{seconds / runs * 1000:8.3f} ms  {name} (mean per run)")


def measure_many(url: str, image: np.ndarray, clients: int, seconds: float) -> None:
    """Prints runs per second of clients that each keep one run in flight."""

    def loop(_: int) -> list[float]:
        latencies = []
        with triton.InferenceServerClient(url) as client:
            while time.perf_counter() < end:
                start = time.perf_counter()
                infer(client, image)
                latencies.append((time.perf_counter() - start) * 1000)
        return latencies

    start = time.perf_counter()
    end = start + seconds
    with ThreadPoolExecutor(clients) as pool:
        latencies = sorted(latency for part in pool.map(loop, range(clients)) for latency in part)
    rate = len(latencies) / (time.perf_counter() - start)
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    print(f"{clients:3d} in flight: {rate:7.1f} runs/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def main() -> None:
    """Measures as the command line says."""
    parser = argparse.ArgumentParser(description="Measure a running detector.")
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC address (default: %(default)s)")
    parser.add_argument("--metrics", default="127.0.0.1:8002", help="metrics address (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=200, help="runs one after the other (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="per number in flight (default: %(default)s)")
    options = parser.parse_args()
    image = draw_image(2, 128, 128)
    measure_one(options.url, options.metrics, image, options.runs)
    for clients in (1, 2, 4, 8):
        measure_many(options.url, image, clients, options.seconds)


if __name__ == "__main__":
    main()
