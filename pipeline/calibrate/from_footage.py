"""More normal footage through the very model that runs: scores, with and without pairs, and maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from pipeline.config import Config
from pipeline.datasets.base import Clip
from pipeline.datasets.clip_digest import clip_digest
from pipeline.errors import VideoError
from pipeline.inference.device import torch_device
from pipeline.inference.engine import Engine
from pipeline.models.float16 import as_float16
from pipeline.models.normal_store import NormalStore, kept_maps
from pipeline.models.pairs import Pairs
from pipeline.models.read_out import Reading
from pipeline.normal_footage import AddedStretch, MapStretch, NormalStretch
from pipeline.types import stack_previous
from pipeline.video.source import DecodedFrame, open_source
from pipeline.video.stated import actual_fps

_BATCH_FRAMES = 16
_MAP_FRAMES = 1024  # whose maps are gathered before it is decided which are kept
_FPS_OF_IMAGES = 25.0  # a source that states no rate, as in training


@dataclass(frozen=True)
class _Read:
    """Scores of B frames, float32, shape (B,), and the maps that they are read off, float16, shape (B, h, w)."""

    scores: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float16]

    @classmethod
    def of(cls, reading: Reading) -> Self:
        return cls(reading.scores.cpu().numpy(), as_float16(reading.scored))


@dataclass(frozen=True)
class _Batch:
    """Frames as they are; and without their pairs, where that matters."""

    own: _Read
    alone: _Read | None


def load_engine(folder: Path, config: Config) -> Engine:
    """A model as it was measured in training, on the device that ``runtime.device`` names.

    Raises:
        BadInputError: it is damaged, or there is no such device.
    """
    return Engine.load(folder, device=torch_device(config))


def add_clip(store: NormalStore, engine: Engine, clip: Clip, progress: Callable[[int], None]) -> NormalStore:
    """Run a clip of normal footage through a model.

    Args:
        store: of the model.
        engine: the model.
        clip: of one of the model's scenes; every frame of it is normal.
        progress: called with the number of the clip's frames that are done.

    Returns:
        The store with the clip in it.

    Raises:
        VideoError: it cannot be read, or was added or learned from before.
    """
    digest = clip_digest(clip)
    if digest is not None and digest in store.clips:
        raise VideoError(f"{clip.url}: the model has seen this footage before, in training or in 'calibrate'")
    if clip.scene not in engine.card.scenes:
        known = ", ".join(engine.card.scenes)
        raise VideoError(f"{clip.url}: expected one of the model's scenes, {known}, got scene {clip.scene!r}")
    step, model = engine.card.provenance.training.frame_step, engine.card.model
    scores: list[npt.NDArray[np.float32]] = []
    alone: list[npt.NDArray[np.float32]] = []
    times_s: list[float] = []
    waiting: list[_Batch] = []
    with open_source(
        clip.url, model.image_size_px, gap_s=model.motion.gap_s, name=clip.name, image_fps=clip.image_fps
    ) as source:
        stated_fps = source.frame_rate_fps or _FPS_OF_IMAGES
        for frames in _batches(source, step, times_s):
            batch = _run(engine, frames, clip.scene)
            scores.append(batch.own.scores)
            if batch.alone is not None:
                alone.append(batch.alone.scores)
            waiting.append(batch)
            if len(waiting) * _BATCH_FRAMES >= _MAP_FRAMES:
                store, waiting = _with_maps(store, clip.scene, waiting, actual_fps(stated_fps, times_s) / step), []
            progress(len(times_s))
    fps = actual_fps(stated_fps, times_s) / step
    store = _with_maps(store, clip.scene, waiting, fps)
    unpaired = np.concatenate(alone).astype(np.float64) if alone else None
    stretch = NormalStretch("own", fps, np.concatenate(scores).astype(np.float64), unpaired)
    added = AddedStretch(stretch, clip.scene, source=f"footage {clip.name}")
    return store.with_added([added], clips=[] if digest is None else [digest])


def _batches(frames: Iterable[DecodedFrame], step: int, times_s: list[float]) -> Iterator[list[DecodedFrame]]:
    """Every so many-th frame, some at a time; the times of all go to a list."""
    batch: list[DecodedFrame] = []
    for index, frame in enumerate(frames):
        times_s.append(float(frame.pts * frame.time_base))
        if index % step == 0:
            batch.append(frame)
        if len(batch) == _BATCH_FRAMES:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def _run(engine: Engine, frames: list[DecodedFrame], scene: str) -> _Batch:
    stacked = np.stack([frame.image for frame in frames])
    previous_luma, gaps_s = stack_previous([frame.previous for frame in frames], stacked)
    images = torch.from_numpy(stacked).to(engine.device)
    scenes = [scene] * len(frames)
    rows = engine.anomaly_model.scene_rows(scenes).to(engine.device)
    maps = engine.anomaly_model.anomaly_maps(images, engine.encode, rows)
    reading = engine.read_out(maps, images, Pairs.of(previous_luma, gaps_s).to(engine.device), scenes)
    if engine.read_out.speed_scales is None:
        return _Batch(_Read.of(reading), None)
    nothing = Pairs.of(np.zeros_like(previous_luma), np.zeros_like(gaps_s)).to(engine.device)
    return _Batch(_Read.of(reading), _Read.of(engine.read_out(maps, images, nothing, scenes)))


def _with_maps(store: NormalStore, scene: str, batches: list[_Batch], fps: float) -> NormalStore:
    if not batches:
        return store
    maps = np.concatenate([batch.own.maps for batch in batches])
    alone = [batch.alone.maps for batch in batches if batch.alone is not None]
    stretch = MapStretch("own", fps, maps, np.concatenate(alone) if alone else None)
    return store.with_added((), maps=kept_maps([(scene, stretch)]))
