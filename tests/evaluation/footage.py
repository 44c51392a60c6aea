"""Small labelled data sets and scores as the real sink writes them."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.datasets.base import Clip, Dataset
from pipeline.sinks.parquet import ParquetSink
from pipeline.types import FrameHeader, Score

MODEL = "0123456789abcdef" * 4


@dataclass(frozen=True)
class ArrayLabels:
    """Ground truth in memory."""

    frame: np.ndarray
    pixel: np.ndarray | None = None

    def frames(self):
        return self.frame

    def pixels(self):
        return self.pixel


def frame_clip(name: str, scene: str, labels: list[int]) -> Clip:
    """A clip of which only the labels matter."""
    return Clip(name, scene, "nowhere.mp4", len(labels), ArrayLabels(np.array(labels, dtype=bool)))


def pixel_clip(name: str, scene: str, frames: int, folder: Path | None = None, seed: int = 0) -> Clip:
    """A 32 x 48 clip whose second half holds a bright square, with its ground truth; footage only given a folder."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((frames, 32, 48), dtype=bool)
    for frame in range(frames // 2, frames):
        row, column = generator.integers(0, 20), generator.integers(0, 36)
        masks[frame, row : row + 9, column : column + 11] = True
    url = "nowhere.mp4"
    if folder is not None:
        footage = folder / name
        footage.mkdir(parents=True)
        url = str(footage)
        for frame, mask in enumerate(masks):
            image = np.where(mask, 220, 90)[..., None].repeat(3, axis=2) + generator.integers(0, 20, (32, 48, 1))
            Image.fromarray(image.astype(np.uint8)).save(footage / f"{frame:03d}.png")
    return Clip(name, scene, url, frames, ArrayLabels(masks.any(axis=(1, 2)), masks))


def dataset_of(*clips: Clip) -> Dataset:
    return Dataset("toy", Path("toy"), (), clips)


def score_rows(camera_id: str, scores, *, maps=None, frames=None, session: int = 0) -> list[Score]:
    """Scores of a clip as the scorer passes them to the sink, at 10 frames per second."""
    frames = range(len(scores)) if frames is None else frames
    return [
        Score(
            header=FrameHeader(camera_id, session, index, index, Fraction(1, 10), 1_700_000_000.0 + index),
            anomaly_score=float(score),
            smoothed_score=float(score),
            p_value=0.5,
            threshold=0.8,
            close_threshold=0.7,
            scored_at_s=1_700_000_000.1 + index,
            latency_s=0.1,
            anomaly_map=None if maps is None else maps[number],
        )
        for number, (index, score) in enumerate(zip(frames, scores, strict=True))
    ]


def rows_with_event(name: str, scores, first: int, last: int) -> list[Score]:
    """Scores of a clip in which one event opened with its third frame."""
    rows = score_rows(name, scores)
    told = {"event_id": f"{name}-1700000000000-0-{first}", "event_start_s": first / 10}
    rows[first + 2 : last + 1] = [replace(row, **told) for row in rows[first + 2 : last + 1]]
    return rows


def write_scores(root: Path, *rows: list[Score], model: str = MODEL, maps: bool = False) -> Path:
    """Write rows through the real sink; each list of rows is written at once."""
    sink = ParquetSink(root, maps=maps, rotate_s=1e9)
    for several in rows:
        sink.write([replace(score, model=model) for score in several])
    sink.close()
    assert sink.unwritten() == []
    return root


def maps_of(clip: Clip, seed: int = 0) -> np.ndarray:
    """Noisy anomaly maps at an eighth of the size, higher where the ground truth is."""
    masks = clip.pixel_labels()
    assert masks is not None
    coarse = masks.reshape(len(masks), 4, 8, 6, 8).mean(axis=(2, 4))
    return (0.6 * coarse + 0.5 * np.random.default_rng(seed).random(coarse.shape)).astype(np.float16)
