"""Which way of seeing motion: several side by side, on made pairs whose truth is known and on labelled footage.

Usage: python -m benchmarks.motion [--every N]
Asks of each what it costs on one thread; which speeds it sees in still pictures whose light changes, or that are noisy
or compressed anew; and how wrong it is of pictures shifted by known amounts. What it reaches on labelled clips by
itself is a report: it looked at labels, and decides nothing. OpenCV's are measured where ``cv2`` can be imported, which
the project does not ask for. Motion vectors of a video's encoder are there only in inter-coded video: the made pairs
are encoded (x264) for that, of folders of JPEG pictures there are none. About four minutes on one core.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage

from benchmarks.accuracy_sets import SETS
from benchmarks.machine import describe, store
from benchmarks.motion_estimators import (
    CELL_PX,
    Estimator,
    codec_estimator,
    codec_speeds,
    estimators,
    export_vectors,
)
from pipeline.datasets.base import Clip
from pipeline.datasets.detect import open_dataset
from pipeline.evaluation.metrics import PixelHistogram, frame_auroc, upsample
from pipeline.model_settings import MotionSettings
from pipeline.models.score import frame_scores
from pipeline.types import PreviousLuma
from pipeline.video.pairs import luma_of
from pipeline.video.source import open_source

Luma = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]

_GAP_S = MotionSettings().gap_s
_BATCH, _ROUNDS = 16, 9
_PICTURES = 12  # of each set, for made pairs
_SHIFTS_PX = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_TOP_FRACTION = 0.01
_EVERY_PIXEL = 4  # of labels and maps one pixel in so many, each way, is counted
_CODEC = "encoder's vectors"


def _gamma(luma: Luma, _: np.random.Generator) -> Luma:
    return np.round(255.0 * (luma / 255.0) ** 0.8).astype(np.uint8)


def _noise(luma: Luma, random: np.random.Generator) -> Luma:
    return np.clip(np.round(luma + random.normal(0.0, 4.0, luma.shape)), 0, 255).astype(np.uint8)


def _jpeg(luma: Luma, _: np.random.Generator) -> Luma:
    file = io.BytesIO()
    Image.fromarray(luma).save(file, "jpeg", quality=40)
    return np.array(Image.open(file))


CHANGES: dict[str, Callable[[Luma, np.random.Generator], Luma]] = {
    "exposure x .8": lambda luma, _: np.round(0.8 * luma).astype(np.uint8),
    "gamma .8": _gamma,
    "noise of 4 levels": _noise,
    "JPEG 40": _jpeg,
}
"""What happens to the second frame of a still pair."""


def pictures() -> dict[str, list[Luma]]:
    """Luma of pictures of each set's training footage, at its size, evenly spread."""
    found = {}
    for of in SETS:
        if of.name not in {"ped2", "avenue", "carpark"} or of.source is None:
            continue
        if of.source.is_file():
            urls = [str(of.source)]
        else:
            urls = [clip.url for clip in open_dataset(of.source, need="train").train]
        lumas: list[Luma] = []
        for url in urls:
            with open_source(url, of.image_size_px) as source:
                lumas += [luma_of(frame.image) for frame in islice(source, 0, 480, 20)]
        found[of.name] = lumas[:: max(1, len(lumas) // _PICTURES)][:_PICTURES]
    return found


def false_speeds(estimate: Estimator, lumas: Mapping[str, Sequence[Luma]]) -> dict[str, float]:
    """The 99th percentile of the speeds seen in still pairs, in heights per second, per change of the picture."""
    found = {}
    for name, change in CHANGES.items():
        random = np.random.default_rng(0)
        speeds = [
            estimate(_tensor([change(luma, random) for luma in of_set]), _tensor(of_set)).flatten()
            for of_set in lumas.values()
        ]
        found[name] = float(np.quantile(torch.cat(speeds).numpy(), 0.99) / _GAP_S)
    return found


def shift_errors(estimate: Estimator, lumas: Mapping[str, Sequence[Luma]]) -> dict[str, float]:
    """Median error of the speed, as a share of it, where there is structure, by how far the whole picture moved."""
    found = {}
    for shift_px in _SHIFTS_PX:
        random, errors = np.random.default_rng(1), []
        for of_set in lumas.values():
            moved = [_shifted(luma, shift_px, random) for luma in of_set]
            truth = shift_px / of_set[0].shape[0]
            off = (estimate(_tensor(moved), _tensor(of_set)).numpy() - truth) / truth
            errors += [np.abs(one[_structured(luma)]) for one, luma in zip(off, of_set, strict=True)]
        found[f"{shift_px:g} px"] = float(np.median(np.concatenate(errors)))
    return found


def _tensor(lumas: Sequence[Luma]) -> torch.Tensor:
    return torch.from_numpy(np.stack(lumas))


def _shifted(luma: Luma, shift_px: float, random: np.random.Generator) -> Luma:
    angle = random.uniform(0.0, 2.0 * np.pi)
    moved = ndimage.shift(luma.astype(np.float64), (shift_px * np.sin(angle), shift_px * np.cos(angle)), mode="nearest")
    return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def _structured(luma: Luma) -> npt.NDArray[np.bool_]:
    """The quarter of the cells with most structure in every direction; none near the edge, where pictures came in."""
    smooth = ndimage.gaussian_filter(luma / 255.0, 1.0)
    down, right = np.gradient(smooth)
    sums = [ndimage.uniform_filter(one, 16)[4::CELL_PX, 4::CELL_PX] for one in (right**2, down**2, right * down)]
    xx, yy, xy = sums
    least = (xx + yy) / 2.0 - np.hypot((xx - yy) / 2.0, xy)
    inner = np.zeros(least.shape, bool)
    inner[2:-2, 2:-2] = True
    return inner & (least >= np.quantile(least[inner], 0.75))


def cpu_ms(every: Mapping[str, Estimator], lumas: Sequence[Luma]) -> dict[str, float]:
    """CPU time per frame on one thread: medians over rounds in which the estimators take turns."""
    before = _tensor([lumas[number % len(lumas)] for number in range(_BATCH)])
    now = before.roll(1, dims=2)
    spent: dict[str, list[float]] = {name: [] for name in every}
    for turn in range(_ROUNDS + 1):
        for name, estimate in every.items():
            start = time.process_time()
            estimate(now, before)
            if turn:
                spent[name].append(1000.0 * (time.process_time() - start) / _BATCH)
    return {name: round(statistics.median(times), 3) for name, times in spent.items()}


def codec_cpu_ms(url: str, size_px: tuple[int, int]) -> float:
    """What reading vectors adds to decoding a video, per frame: medians over rounds in which both take turns."""

    def decode(speeds: bool) -> float:
        start, count = time.process_time(), 0
        with av.open(url) as container:
            if speeds:
                export_vectors(container.streams.video[0])
            for count, frame in enumerate(islice(container.decode(video=0), 100), start=1):  # noqa: B007
                if speeds:
                    codec_speeds(frame, size_px)
        return 1000.0 * (time.process_time() - start) / count

    return round(statistics.median(decode(True) - decode(False) for _ in range(_ROUNDS)), 3)


def clip_speeds(clip: Clip, size_px: tuple[int, int], every: Mapping[str, Estimator], step: int) -> dict[str, Maps]:
    """Speeds of each ``step``-th frame of a clip, in heights per second; NaN for a frame without a pair."""
    cells = (size_px[0] // CELL_PX, size_px[1] // CELL_PX)
    found: dict[str, list[Maps]] = {name: [] for name in every}
    with open_source(clip.url, size_px, gap_s=_GAP_S, image_fps=clip.image_fps) as source:
        frames = islice(source, 0, None, step)
        while batch := list(islice(frames, _BATCH)):
            now = _tensor([luma_of(frame.image) for frame in batch])
            previous = [frame.previous or PreviousLuma(luma_of(frame.image), np.nan) for frame in batch]
            before, gaps_s = _tensor([one.luma for one in previous]), np.array([one.gap_s for one in previous])
            for name, estimate in every.items():
                found[name].append((estimate(now, before).numpy() / gaps_s[:, None, None]).astype(np.float32))
    return {name: np.concatenate([np.zeros((0, *cells), np.float32), *maps]) for name, maps in found.items()}


def codec_clip_speeds(clip: Clip, size_px: tuple[int, int], step: int) -> Maps | None:
    """The same by the vectors in a video; None of a folder of pictures. A frame without vectors shows no motion."""
    if Path(clip.url).is_dir():
        return None
    still = np.zeros((size_px[0] // CELL_PX, size_px[1] // CELL_PX), np.float32)
    maps = []
    with av.open(clip.url) as container:
        stream = container.streams.video[0]
        export_vectors(stream)
        for frame in islice(container.decode(stream), 0, None, step):
            speeds = codec_speeds(frame, size_px)
            maps.append(still if speeds is None else speeds * float(stream.average_rate or 1))
    return np.stack(maps)


def speed_scale(train: Maps) -> Maps:
    """What speeds are measured in at every cell, as ``pipeline.training.read_out`` has it."""
    mean, square = train.mean(axis=0, dtype=np.float64), (train.astype(np.float64) ** 2).mean(axis=0)
    near, near_square = (ndimage.gaussian_filter(values, 4.0, mode="nearest") for values in (mean, square))
    local = np.sqrt(np.maximum(near_square - near**2, 0.0))
    return (local + np.sqrt(square.mean() - mean.mean() ** 2) + 0.01).astype(np.float32)


def on_labels(train: Sequence[Maps], test: Sequence[tuple[Clip, Maps]], step: int) -> dict[str, float | None]:
    """Frame and pixel AUROC of the speeds by themselves."""
    normal = np.concatenate(train)
    scale = speed_scale(normal[~np.isnan(normal).any(axis=(1, 2))])
    labels, scores, pixels = [], [], PixelHistogram()
    for clip, speeds in test:
        maps = np.nan_to_num(speeds) / scale
        of_clip, masks = clip.frame_labels(), clip.pixel_labels()
        assert of_clip is not None and masks is not None
        labels.append(of_clip[::step])
        scores.append(frame_scores(torch.from_numpy(maps), _TOP_FRACTION).numpy())
        masks = np.asarray(masks[::step, ::_EVERY_PIXEL, ::_EVERY_PIXEL])
        pixels.add(masks, upsample(maps + 0.01, masks.shape[1:]))  # a histogram of logarithms, and many speeds are 0
    return {
        "frame_auroc": frame_auroc(np.concatenate(labels), np.concatenate(scores)),
        "pixel_auroc": pixels.auroc(),
    }


def labelled(every: Mapping[str, Estimator], step: int) -> dict[str, dict[str, Any]]:
    """By estimator and set, what ``on_labels`` finds; None where there is nothing to see motion in."""
    found: dict[str, dict[str, Any]] = {name: {} for name in (*every, _CODEC)}
    for of in SETS:
        if of.name not in {"ped2", "avenue"} or of.source is None:
            continue
        dataset = open_dataset(of.source, need="any")
        by_clip = {
            clip.name: {
                **clip_speeds(clip, of.image_size_px, every, step),
                _CODEC: codec_clip_speeds(clip, of.image_size_px, step),
            }
            for clip in (*dataset.train, *dataset.test)
        }
        for name, sets in found.items():
            train = [maps for clip in dataset.train if (maps := by_clip[clip.name][name]) is not None]
            test = [(clip, maps) for clip in dataset.test if (maps := by_clip[clip.name][name]) is not None]
            sets[of.name] = on_labels(train, test, step) if train and test else None
        print(of.name, {name: sets[of.name] for name, sets in found.items()}, flush=True)
    return found


def _a_video() -> tuple[str, tuple[int, int]]:
    of = next(of for of in SETS if of.name == "avenue" and of.source is not None)
    assert of.source is not None
    return open_dataset(of.source, need="train").train[0].url, of.image_size_px


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=5, help="of labelled footage, take each N-th frame")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    every = estimators()
    if not any(name.startswith("OpenCV") for name in every):
        print("OpenCV's dense flow is left out: cv2 cannot be imported")
    result: dict[str, Any] = {"benchmark": "motion", **describe(), "every": arguments.every, "estimators": {}}
    with torch.inference_mode():
        lumas = pictures()
        times = cpu_ms(every, lumas["ped2"])
        times[_CODEC] = codec_cpu_ms(*_a_video())
        for name, estimate in {**every, _CODEC: codec_estimator}.items():
            measured = {"false_speed_q99": false_speeds(estimate, lumas), "shift_error": shift_errors(estimate, lumas)}
            result["estimators"][name] = {"cpu_ms": times[name], **measured}
            print(name, result["estimators"][name], flush=True)
        for name, sets in labelled(every, arguments.every).items():
            result["estimators"][name]["looked_at_labels"] = sets
    store(result)


if __name__ == "__main__":
    main()
