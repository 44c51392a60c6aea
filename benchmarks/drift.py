"""How soon a drift of a camera's normal scores is told, and how often one that is none: simulated scores.

Usage: python -m benchmarks.drift [--cameras 12] [--days 3]

Scores are Gaussian, 2 per second, each .8 of the one before, so that they forget each other within 8 s. Each camera has
footage of some hours, by which it is then watched: for some days without a drift, and from its first frame on with one,
for a day or until it is told. The frames that are bets go through the monitor that runs have (it passes over those
between), with its default of one false drift a month. Prints a row per hours of footage and, last, one JSON line;
writes the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.machine import describe, store
from pipeline.camera_settings import HealthSettings
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.drift import DriftMonitor, DriftTest
from pipeline.types import FrameHeader

FPS = 2
FOOTAGE_H = (0.15, 0.5, 1.0, 2.0)
SHIFTS = (1.0, -1.0, 0.3)  # in spreads of the scores
_KEPT = 0.8  # of a score in the next one
_DRIFTING_H = 24.0


def scores(hours: float, seed: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Normal scores of mean 0 and spread 1, (T,)."""
    noise = np.random.default_rng(seed).standard_normal(round(hours * 3600 * FPS))
    return np.asarray(lfilter([np.sqrt(1.0 - _KEPT**2)], [1.0, -_KEPT], noise), np.float64)


def told_after_min(test: DriftTest, seen: npt.NDArray[np.float64]) -> float | None:
    """Minutes of footage until a drift is told; None where none is."""
    falsely_h = HealthSettings().drift_falsely_h
    assert falsely_h is not None
    monitor = DriftMonitor("camera", falsely_h)
    for index in range(0, len(seen), round(test.gap_s * FPS)):
        header = FrameHeader("camera", 0, index, index, Fraction(1, FPS), index / FPS)
        if monitor.update(test, header, float(seen[index]), 0.0, paired=True):
            return index / FPS / 60.0
    return None


def measure(hours: float, cameras: int, days: float) -> dict[str, Any]:
    """What some cameras with so much footage each are told."""
    falsely, unable = 0, 0
    after: dict[str, list[float | None]] = {f"{shift:+g}": [] for shift in SHIFTS}
    for camera in range(cameras):
        test = DriftTest.of([NormalStretch("own", FPS, scores(hours, (camera, 0)))])
        if test is None:
            unable += 1
            continue
        falsely += told_after_min(test, scores(24.0 * days, (camera, 1))) is not None
        for shift in SHIFTS:
            minutes = told_after_min(test, scores(_DRIFTING_H, (camera, 2)) + shift)
            after[f"{shift:+g}"].append(None if minutes is None else round(minutes, 1))
    return {"footage_h": hours, "cameras": cameras, "unable": unable, "days_each": days, "told_falsely": falsely,
            "told_after_min": after}  # fmt: skip


def main() -> None:
    """Simulate, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=12)
    parser.add_argument("--days", type=float, default=3.0)
    arguments = parser.parse_args()
    started_at = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for hours in FOOTAGE_H:
        rows.append(measure(hours, arguments.cameras, arguments.days))
        print(rows[-1], flush=True)
    seconds = round(time.perf_counter() - started_at, 1)
    store({"benchmark": "drift", **describe(), "fps": FPS, "seconds": seconds, "rows": rows})


if __name__ == "__main__":
    main()
