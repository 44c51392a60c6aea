"""What watching for tampered cameras costs, and how far apart a good camera and a tampered one are, on real footage.

Usage: python -m benchmarks.tamper DATA
DATA holds ``ped2`` and ``cameras``, as described in docs/evaluation.md. Prints tables and, last, one JSON line; writes
the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe, store
from pipeline.camera_settings import HealthSettings
from pipeline.types import SceneReference
from pipeline.video.tamper import (
    MEMORY_S,
    Background,
    SceneMatcher,
    TamperMonitor,
    describe_scene,
    difference_limits,
    gray_image,
)
from tests.video.tampering import HARMFUL, HARMLESS, Camera, Images, cut, load_cameras, turns, watch

_TURN = 0.18
_SECONDS = 60.0
_TAMPERED_FRAMES = 40  # of each kind; shown to and fro for as long as it takes


def cost_ms(camera: Camera, reference: SceneReference) -> dict[str, float]:
    """Time per frame in milliseconds on one core: on average, and at worst (a frame at which the scene is compared)."""
    looking = TamperMonitor(HealthSettings(), reference)
    images = [np.ascontiguousarray(image) for image in camera.watch[0]]
    taken = []
    for number in range(4 * len(images)):
        started_at = time.perf_counter()
        looking.update(images[number % len(images)], number / camera.fps)
        taken.append(1e3 * (time.perf_counter() - started_at))
    taken = np.sort(np.array(taken))
    return {"mean": round(float(taken.mean()), 3), "p50": round(float(np.median(taken)), 3), "p99": _p99(taken)}


def _p99(values: np.ndarray) -> float:
    return round(float(np.quantile(values, 0.99)), 3)


def closeness(reference: SceneReference, clips: Sequence[Images], fps: float) -> tuple[float, float, float, float]:
    """Lowest and highest agreement with a reference, lowest and highest sharpness relative to it."""
    scene, agreements, sharpness = SceneMatcher(reference), [], []
    for clip in clips:
        background = Background()
        for number in range(max(len(clip), round(2 * MEMORY_S * fps))):
            background.add(gray_image(clip[number % len(clip)]), number / fps)
            if background.age_s >= MEMORY_S and background.gray is not None:
                seen = describe_scene(background.gray)
                agreements.append(scene.agreement(seen.edges))
                sharpness.append(seen.sharpness / reference.sharpness)
    return min(agreements), max(agreements), min(sharpness), max(sharpness)


def measure_footage(
    what: str, expected: str, reference: SceneReference, clips: Sequence[Images], fps: float
) -> dict[str, Any]:
    """Watch some footage with the default settings."""
    raised = [watch(HealthSettings(), reference, clip, fps, _SECONDS) for clip in clips]
    found = {condition: min(r[condition] for r in raised if condition in r) for one in raised for condition in one}
    lowest, highest, dull, sharp = closeness(reference, clips, fps)
    return {
        "what": what,
        "expected": expected,
        "raised_s": {condition: round(at_s, 1) for condition, at_s in sorted(found.items())},
        "telling": reference.telling,
        "right": set(found) == ({expected} if expected else set()),
        "agreement": [round(lowest, 2), round(highest, 2)],
        "sharpness": [round(dull, 2), round(sharp, 2)],
    }


def measure_camera(camera: Camera, others: Sequence[Camera]) -> dict[str, Any]:
    """One camera's own footage, and everything that can befall it."""
    reference = camera.reference()
    few = camera.watch[0][:_TAMPERED_FRAMES]
    rows = [measure_footage("own footage", "", reference, camera.watch, camera.fps)]
    rows += [measure_footage(name, "", reference, [change(few)], camera.fps) for name, change in HARMLESS.items()]
    rows += [
        measure_footage(name, expected, reference, [change(few)], camera.fps)
        for name, (expected, change) in HARMFUL.items()
    ]
    rows += [
        measure_footage(f"camera {other.name}", "moved", reference, other.watch[:1], other.fps) for other in others
    ]
    for name, (before, after) in turns(_TURN).items():
        turned_reference = camera.reference(before)
        rows.append(measure_footage(f"not {name}", "", turned_reference, [cut(few, before)], camera.fps))
        rows.append(measure_footage(f"{name} {_TURN:.0%}", "moved", turned_reference, [cut(few, after)], camera.fps))
    least, _ = difference_limits(reference)
    return {
        "camera": camera.name,
        "own_agreement": reference.own_agreement,
        "turned_agreement": reference.turned_agreement,
        "moved_below": round(least, 2),
        "sharpness": reference.sharpness,
        "bytes": sum(map(len, reference.edges)),
        "rows": rows,
    }


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one camera: how far apart the good and the tampered are, and what was judged wrongly."""
    rows = found["rows"]
    good = [row for row in rows if not row["expected"] or row["expected"] == "frozen"]
    elsewhere = [row for row in rows if row["expected"] == "moved" and row["what"] != "out of focus"]
    blurred = [row for row in rows if row["what"] == "out of focus"]
    return {
        **{key: value for key, value in found.items() if key != "rows"},
        "agreement_good_least": min(row["agreement"][0] for row in good),
        "agreement_moved_most": max(row["agreement"][1] for row in elsewhere),
        "sharpness_good_least": min(row["sharpness"][0] for row in good),
        "sharpness_blurred_most": max(row["sharpness"][1] for row in blurred),
        "wrong": [
            row["what"] + ("" if row["telling"] else " (check off: view not telling)")
            for row in rows
            if not row["right"]
        ],
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with ped2 and cameras")
    cameras = load_cameras(parser.parse_args().data)
    judged = [measure_camera(one, [c for c in cameras.values() if c is not one]) for one in cameras.values()]
    for found in judged:
        print("\n" + ", ".join(f"{key} {value}" for key, value in found.items() if key != "rows"))
        for row in found["rows"]:
            print(
                f"  {row['what']:<18} {'ok   ' if row['right'] else 'WRONG'} agreement {row['agreement'][0]:5.2f} to "
                f"{row['agreement'][1]:5.2f}  sharpness {row['sharpness'][0]:4.2f} to {row['sharpness'][1]:4.2f}  "
                f"{row['raised_s'] or ''}{'' if row['telling'] else ' view not telling'}"
            )
    rows = [row for found in judged for row in found["rows"]]
    harmful, harmless = ([row for row in rows if bool(row["expected"]) is kind] for kind in (True, False))
    result = {
        "benchmark": "tamper",
        **describe(),
        "ms_per_frame": cost_ms(cameras["ped2"], cameras["ped2"].reference()),
        "detected": f"{sum(row['right'] for row in harmful)} of {len(harmful)}",
        "false_alarms": f"{sum(not row['right'] for row in harmless)} of {len(harmless)}",
        "cameras": [summary(found) for found in judged],
        "load_average": os.getloadavg()[0],
    }
    print()
    for key in ("ms_per_frame", "detected", "false_alarms"):
        print(f"{key:>14}  {result[key]}")
    store(result)


if __name__ == "__main__":
    main()
