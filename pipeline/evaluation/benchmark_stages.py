"""What a frame costs in each stage on this machine, measured alone; ``benchmark`` turns it into cameras."""

from __future__ import annotations

import itertools
import math
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.addresses import is_live
from pipeline.camera_settings import CameraSettings
from pipeline.config import RuntimeSettings
from pipeline.datasets.synthetic import SyntheticSpec, render
from pipeline.errors import BadInputError, VideoError
from pipeline.evaluation.benchmark import BatchCost, Costs, batch_sizes
from pipeline.models.card import ModelCard
from pipeline.private_folder import temporary_folder
from pipeline.run_folder import RunFolder
from pipeline.scoring.scorer import Scorer
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.redis_stream import RedisSink
from pipeline.sinks.run_store import RunStore
from pipeline.types import Frame, FrameBatch, FrameHeader, Prediction
from pipeline.video.source import DecodedFrame, open_source

_KEPT = 64  # frames that the other stages work on
_RENDERED = 40
_FPS = 10
_SINK_FRAMES = 2000
_FLUSH_S = 10.0
_LONGEST_BATCH_S = 1.0


def measure(
    model: Path, card: ModelCard, *, video: Path | None, video_size_px: tuple[int, int], device: str,
    runtime: RuntimeSettings,
    maps: bool, seconds: float,
) -> Costs:  # fmt: skip
    """Measure all stages, one after the other.

    Args:
        model: folder of the model.
        card: its card.
        video: footage like the cameras' own; None renders some.
        video_size_px: (height, width) of what is rendered.
        device: torch device.
        runtime: how the model is run: precision, compiled or not, frames in the largest batch.
        maps: whether Parquet keeps maps.
        seconds: for decoding, and for every batch size.

    Raises:
        BadInputError: the video or the model cannot be read, or the device is not there.
    """
    with tempfile.TemporaryDirectory(prefix="cflow-bench-", dir=temporary_folder()) as name:
        folder = Path(name)
        shown = video or _synthetic(folder / "footage", video_size_px)
        decode_s, frames = measure_decode(shown, card.model.image_size_px, card.model.motion.gap_s, seconds)
        inference = measure_inference(model, frames, device, runtime, seconds)
        sinks_s = measure_sinks(card, folder, maps=maps, batch=runtime.batch_frames)
    return Costs(decode_s, inference, sinks_s, os.cpu_count() or 1, device)


def measure_decode(
    video: Path | str, size_px: tuple[int, int], gap_s: float, seconds: float
) -> tuple[float, list[DecodedFrame]]:
    """CPU seconds per frame of decoding, resizing and making pairs, and some of the frames.

    Raises:
        VideoError: the video cannot be read, or holds no frame.
    """
    if is_live(str(video)):
        raise VideoError(f"{video}: expected a video file, got a live stream, which sets its own pace")
    kept: list[DecodedFrame] = []
    frames, before, end_at = 0, time.process_time(), time.monotonic() + seconds
    while frames == 0 or time.monotonic() < end_at:
        with open_source(str(video), size_px, gap_s=gap_s) as source:
            for frame in source:
                frames += 1
                if len(kept) < _KEPT:
                    kept.append(frame)
                if time.monotonic() >= end_at:
                    break
        if not frames:
            raise VideoError(f"{video}: expected a video with frames, got one without")
    return (time.process_time() - before) / frames, kept


def measure_inference(
    model: Path, frames: Sequence[DecodedFrame], device: str, runtime: RuntimeSettings, seconds: float
) -> tuple[BatchCost, ...]:  # fmt: skip
    """Time and CPU time of ``Engine.predict`` per frame at growing batch sizes.

    Raises:
        CheckpointError: the model cannot be read.
        BadInputError: there is no such device.
    """
    import torch

    from pipeline.inference.engine import Engine

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("runtime.device: expected a GPU for 'cuda', got none")
    torch.set_num_threads(os.cpu_count() or 1)
    engine = Engine.ready(model, runtime, device=device)
    scene = next(iter(engine.card.scenes), "")
    costs = []
    for size in batch_sizes(runtime.batch_frames):
        chosen = itertools.islice(itertools.cycle(frames), size)
        batch = FrameBatch.of([Frame(_header(0, i), frame.image, frame.previous) for i, frame in enumerate(chosen)])
        engine.predict(batch, [scene] * size)  # warm-up
        walls, cpu, calls, end_at = [], time.process_time(), 0, time.monotonic() + seconds
        while calls < 2 or time.monotonic() < end_at:
            started = time.perf_counter()
            engine.predict(batch, [scene] * size)
            walls.append(time.perf_counter() - started)
            calls += 1
        costs.append(
            BatchCost(size, float(np.median(walls)) / size, (time.process_time() - cpu) / (calls * size))
        )  # fmt: skip
        if walls[-1] > _LONGEST_BATCH_S:  # larger ones gain nothing on a machine this slow, and nobody would wait
            break
    return tuple(costs)


def measure_sinks(card: ModelCard, folder: Path, *, maps: bool, batch: int) -> float:
    """CPU seconds per frame of scorer, run store, Parquet and Redis, its server included.

    Args:
        card: of the model whose normal footage judges.
        folder: for what is written.
        maps: whether Parquet keeps maps.
        batch: frames that come together.
    """
    servers = _children_s()
    written = RunFolder(folder)
    with EmbeddedRedis(written.redis) as url:
        store = RunStore(written.store_file(), "bench", ["redis"])
        redis = RedisSink(url, alerts=store.alerts("redis"))
        parquet = ParquetSink(written.stream_scores, maps=maps, rotate_s=60.0)
        scorer = Scorer(card)
        scene = next(iter(card.scenes), "bench")
        cameras = [CameraSettings(id=f"cam{i}", url="bench", scene=scene) for i in range(8)]  # pyright: ignore[reportArgumentType]
        scorer.configure(cameras, time.time())
        before = time.process_time()
        for results in _predictions(card, cameras, batch):
            outcome = scorer.update(results, card.fingerprint, time.time())
            parquet.write(outcome.scores)
            store.commit(outcome.states, outcome.alerts)
            redis.write(outcome.scores)
        redis.flush(_FLUSH_S)
        parquet.close()
        spent_s = time.process_time() - before
        redis.close()
        store.close()
    return (spent_s + _children_s() - servers) / (math.ceil(_SINK_FRAMES / batch) * batch)


def _predictions(card: ModelCard, cameras: list[CameraSettings], batch: int) -> Iterator[list[Prediction]]:
    """Batches of normal frames, as a detector sends them."""
    height, width = (side // card.model.encoder.strides[0] for side in card.model.image_size_px)
    normal = next(iter(clip for clips in card.normal_scores.values() for clip in clips if clip), (0.0,))
    blank = np.zeros((height, width), np.float16)
    for first in range(0, _SINK_FRAMES, batch):
        numbers = range(first, first + batch)
        yield [Prediction(_header(n % len(cameras), n // len(cameras)), min(normal), blank) for n in numbers]


def _header(camera: int, index: int) -> FrameHeader:
    return FrameHeader(f"cam{camera}", 0, index, index, Fraction(1, _FPS), time.time(), index)


def _children_s() -> float:
    """CPU seconds of child processes that have ended: of the Redis server."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _synthetic(root: Path, size_px: tuple[int, int]) -> Path:
    """A rendered clip."""
    spec = SyntheticSpec(
        cameras=1, size_px=size_px, fps=_FPS, train_clips=1, train_frames=_RENDERED, test_clips=1, test_frames=20
    )
    render(root, spec)
    return next((root / "training" / "videos").glob("*.mp4"))
