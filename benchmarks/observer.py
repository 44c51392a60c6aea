"""Reads scores off Redis as any consumer would, in a process of its own, and notes when each one arrived.

``python -m benchmarks.observer URL OUT CAMERA...`` follows the cameras' streams until SIGTERM, then writes ``OUT``
(npy, float64, one row per score: captured, at the detector, scored, seen; Unix seconds).
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import redis

from pipeline.sinks.schema import FIELD, scores_key


def follow(url: str, cameras: list[str], stop: list[bool]) -> list[tuple[float, float, float, float]]:
    """Rows of all scores that come until ``stop`` holds something."""
    client = redis.Redis.from_url(url, decode_responses=True, protocol=2)
    since: dict[Any, Any] = {scores_key(camera): "0" for camera in cameras}
    rows = []
    while not stop:
        answer = cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", client.xread(since, count=1000, block=200))
        seen_at_s = time.time()
        for stream, entries in answer or ():
            since[stream] = entries[-1][0]
            for _, fields in entries:
                score = json.loads(fields[FIELD])
                # The stand-in's score is minus the time at which the frame was in the detector.
                rows.append((score["captured_at_s"], -score["anomaly_score"], score["scored_at_s"], seen_at_s))
    return rows


def main() -> None:
    """Follow and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of Redis")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("cameras", nargs="+", help="whose scores to read")
    options = parser.parse_args()
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    np.save(options.out, np.array(follow(options.url, options.cameras, stop), np.float64).reshape(-1, 4))


if __name__ == "__main__":
    main()
