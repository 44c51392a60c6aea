"""Whether a budget of false alarms is kept: simulated cameras, whose later footage opens as many events as promised.

Usage: python -m benchmarks.alarm_budget [--seeds 3]

What is simulated are scores, of three kinds of cameras; all else is real: thresholds, smoothing and the event tracker,
frame by frame at full speed. Each camera is calibrated on a day (and on parts of it), and then watched for another day,
frame by frame, and for ten more by counting. Into further hours things are pasted that are no normal footage, for
recall. Whether intervals hold as often as they say is counted over twenty further cameras of each kind. Prints tables
and, last, one JSON line; writes the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.machine import describe, store
from pipeline.budget import events_per_hour
from pipeline.camera_settings import AlertSettings
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.event_counting import Peaks
from pipeline.scoring.smoothed import smoothed
from pipeline.types import FrameHeader, Prediction

FPS = 5
BUDGETS = ("2/hour", "1/hour", "1/4h")
CALIBRATED_H = (24.0, 12.0, 6.0)
WATCHED_H, LATER_H, PASTED_H = 24.0, 240.0, 3.0
MANY, TRUTH_H = 20, 400.0
HEIGHTS = (2.0, 3.0, 4.0, 6.0, 8.0)  # of what is pasted, in standard deviations of the camera's scores
_PASTED_S, _EVERY_S = 4.0, 60.0

Scores = npt.NDArray[np.float64]


def calm(random: np.random.Generator, frames: int) -> Scores:
    """A view where little happens: each score resembles the last, and the tail is exponential."""
    return _remembered(random.standard_gamma(4.0, size=frames) - 4.0, 1.0)


def street(random: np.random.Generator, frames: int) -> Scores:
    """Noise, and forty times an hour somebody who passes for seconds and is more or less surprising."""
    scores = _remembered(random.standard_normal(frames), 0.5)
    for at in np.flatnonzero(random.random(frames) < 40.0 / 3600.0 / FPS):
        shape = np.hanning(max(3, round(float(random.lognormal(1.8, 0.5)) * FPS)))
        bump = scores[at : at + len(shape)]
        bump += float(random.standard_gamma(2.0)) * shape[: len(bump)]
    return scores


def gusts(random: np.random.Generator, frames: int) -> Scores:
    """Leaves in the wind: a heavy tail (Student's law with six degrees of freedom) and a longer memory."""
    return _remembered(random.standard_t(6.0, size=frames), 2.0)


CAMERAS: dict[str, Callable[[np.random.Generator, int], Scores]] = {"calm": calm, "street": street, "gusts": gusts}


def _remembered(values: Scores, memory_s: float) -> Scores:
    keep = float(np.exp(-1.0 / FPS / memory_s))
    return np.asarray(lfilter([np.sqrt(1.0 - keep**2)], [1.0, -keep], values), np.float64)


def footage(kind: str, seed: int, part: int, hours: float) -> Scores:
    """Some hours of a camera; each part of its life is another."""
    random = np.random.default_rng((seed, part, list(CAMERAS).index(kind)))
    return CAMERAS[kind](random, round(hours * 3600 * FPS))


def openings(calibration: Calibration, settings: AlertSettings, scores: Scores, fps: int = FPS) -> list[float]:
    """Media times (s) at which events open, frame by frame."""
    camera = CameraScoring(kind := "camera", calibration, settings)
    opened: list[float] = []
    for index, score in enumerate(scores.tolist()):
        header = FrameHeader(kind, 0, index, index, Fraction(1, fps), index / fps, index)
        before = camera.events
        camera.update(Prediction(header, score, paired=True), index / fps)
        if camera.events > before:
            opened.append(index / fps)
    return opened


def pasted(scores: Scores, random: np.random.Generator) -> tuple[Scores, list[tuple[float, float]]]:
    """Footage into which something unusual comes every minute; begin (s) and height of each."""
    unit, changed, found = float(scores.std()), scores.copy(), []
    for number, at_s in enumerate(np.arange(_EVERY_S, len(scores) / FPS - _EVERY_S, _EVERY_S)):
        height = HEIGHTS[number % len(HEIGHTS)]
        begin = round(float(at_s + random.uniform(0.0, _EVERY_S / 2)) * FPS)
        changed[begin : begin + round(_PASTED_S * FPS)] += height * unit
        found.append((begin / FPS, height))
    return changed, found


def recall(calibration: Calibration, settings: AlertSettings, kind: str, seed: int) -> dict[str, float]:
    """Share of what was pasted during which an event opened, by height."""
    scores, things = pasted(footage(kind, seed, 3, PASTED_H), np.random.default_rng((seed, 4)))
    opened = np.array(openings(calibration, settings, scores))
    hits = [(height, bool(((opened >= at_s) & (opened < at_s + _PASTED_S)).any())) for at_s, height in things]
    return {f"{height:g}": round(float(np.mean([hit for of, hit in hits if of == height])), 3) for height in HEIGHTS}


def measure_camera(kind: str, seed: int) -> list[dict[str, Any]]:
    """A camera's promises by budget and hours of footage, and what came of them."""
    rows: list[dict[str, Any]] = []
    normal, watched = footage(kind, seed, 0, max(CALIBRATED_H)), footage(kind, seed, 1, WATCHED_H)
    later = smoothed([NormalStretch("own", FPS, footage(kind, seed, 2, LATER_H))], None, AlertSettings().smoothing_s)
    for hours in CALIBRATED_H:
        seen = [NormalStretch("own", FPS, normal[: round(hours * 3600 * FPS)])]
        for budget in BUDGETS:
            settings = AlertSettings(budget=budget, cooldown_s=0.0)  # openings one by one, as they are promised
            calibration = Calibration.of(seen, settings)
            thresholds = calibration.thresholds
            assert thresholds.interval_per_hour is not None
            low, high = thresholds.interval_per_hour
            counted = Peaks.of(later, thresholds.closing, settings).counted(thresholds.opening) / LATER_H
            row = {
                "camera": kind,
                "seed": seed,
                "hours": hours,
                "budget": budget,
                "threshold": round(thresholds.opening, 3),
                "expected_per_hour": round(thresholds.expected_per_hour or 0.0, 4),
                "interval_per_hour": [round(low, 4), round(high, 4)],
                "provisional": thresholds.provisional,
                "later_per_hour": round(counted, 4),
                "later_inside": low <= counted <= high,
            }
            if hours == max(CALIBRATED_H):
                opened = len(openings(calibration, settings, watched))
                row["opened_in_a_day"] = opened
                row["day_inside"] = low <= opened / WATCHED_H <= high
                row["recall_by_height"] = recall(calibration, settings, kind, seed)
            rows.append(row)
    return rows


def coverage(kind: str) -> dict[str, float]:
    """Of many cameras of a kind with a day of footage each, the share whose promise holds, by budget."""
    truth = smoothed([NormalStretch("own", FPS, footage(kind, 0, 5, TRUTH_H))], None, AlertSettings().smoothing_s)
    held: dict[str, list[bool]] = {budget: [] for budget in BUDGETS}
    for camera in range(MANY):
        seen = [NormalStretch("own", FPS, footage(kind, camera, 6, max(CALIBRATED_H)))]
        for budget in BUDGETS:
            settings = AlertSettings(budget=budget)
            thresholds = Calibration.of(seen, settings).thresholds
            assert thresholds.interval_per_hour is not None
            low, high = thresholds.interval_per_hour
            rate = Peaks.of(truth, thresholds.closing, settings).counted(thresholds.opening) / TRUTH_H
            held[budget].append(low <= rate <= high)
    return {budget: round(float(np.mean(kept)), 3) for budget, kept in held.items()}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over all cameras and seeds, by budget and hours."""
    found: list[dict[str, Any]] = []
    for hours in CALIBRATED_H:
        for budget in BUDGETS:
            some = [row for row in rows if (row["hours"], row["budget"]) == (hours, budget)]
            days = [row for row in some if "opened_in_a_day" in row]
            found.append(
                {
                    "hours": hours,
                    "budget": budget,
                    "budget_per_hour": events_per_hour(budget),
                    "cameras": len(some),
                    "provisional": sum(row["provisional"] for row in some),
                    "interval_width": round(
                        float(np.mean([row["interval_per_hour"][1] - row["interval_per_hour"][0] for row in some])), 3
                    ),
                    "later_per_hour": round(float(np.mean([row["later_per_hour"] for row in some])), 3),
                    "later_inside": sum(row["later_inside"] for row in some),
                    "day_per_hour": round(sum(row["opened_in_a_day"] for row in days) / (len(days) * WATCHED_H), 3)
                    if days
                    else None,
                    "day_inside": sum(row["day_inside"] for row in days) if days else None,
                    "recall_by_height": {
                        height: round(float(np.mean([row["recall_by_height"][height] for row in days])), 3)
                        for height in days[0]["recall_by_height"]
                    }
                    if days
                    else None,
                }
            )
    return found


def main() -> None:
    """Simulate, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    started_at = time.perf_counter()
    rows = [row for seed in range(arguments.seeds) for kind in CAMERAS for row in measure_camera(kind, seed)]
    table = summary(rows)
    for line in table:
        print(line)
    covered = {kind: coverage(kind) for kind in CAMERAS}
    print("promises that hold:", covered)
    frame_by_frame_h = (WATCHED_H + PASTED_H) * len(BUDGETS) * len(CAMERAS) * arguments.seeds
    store(
        {
            "benchmark": "alarm-budget",
            **describe(),
            "fps": FPS,
            "camera_hours_frame_by_frame": frame_by_frame_h,
            "camera_hours_counted": LATER_H * len(CAMERAS) * arguments.seeds,
            "seconds": round(time.perf_counter() - started_at, 1),
            "summary": table,
            "promises_that_hold": covered,
            "cameras": rows,
        }
    )


if __name__ == "__main__":
    main()
