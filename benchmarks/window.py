"""A run whose model is a stand-in, the stretch of it that is measured, and what it wrote meanwhile."""

# pyarrow has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cpu_time import spent, threads
from pipeline.config import TrainingSettings
from pipeline.model_settings import ModelSettings
from pipeline.models.card import WEIGHTS_FILE, LevelConstants, ModelCard, Provenance, write_card
from pipeline.run_folder import RunFolder
from pipeline.runtime.messages import CameraRole
from pipeline.runtime.plan import Predict
from pipeline.runtime.status import RunStatus
from pipeline.sinks.parquet import staging_folder
from pipeline.sinks.parquet_journal import JOURNAL_SUFFIX, read_journal
from pipeline.types import FrameBatch, Prediction

_NORMAL_FRAMES = 500


@dataclass(frozen=True)
class StandIn:
    """Makes a predictor that only counts; its score is minus the time at which it was asked.

    A negative score opens no event, and tells the observer when the frame was in the detector.

    Attributes:
        map_shape: (rows, columns) of the maps it gives, as a model would.
    """

    map_shape: tuple[int, int]

    def __call__(self) -> Predict:
        """The predictor."""
        blank = np.zeros(self.map_shape, np.float16)

        def predict(batch: FrameBatch, roles: Sequence[CameraRole]) -> list[Prediction]:
            now_s = time.time()
            return [Prediction(header, -now_s, blank) for header in batch.headers]

        return predict


class Window:
    """The stretch of a run that is measured.

    Args:
        warm_up_s: from the first score of every camera to its start.
        lasting_s: how long it is.
        cameras: their ids.
    """

    def __init__(self, warm_up_s: float, lasting_s: float, cameras: list[str]) -> None:
        self.cameras = cameras
        self.from_s = self.to_s = 0.0
        self.seconds: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.threads: dict[str, int] = {}
        self._status: RunStatus | None = None
        self._warm_up_s, self._lasting_s = warm_up_s, lasting_s
        self._scoring = threading.Event()

    def see(self, status: RunStatus) -> None:
        """Note when everyone scores."""
        self._status = status
        if len(status.cameras) == len(self.cameras) and all(c.scoring.scored for c in status.cameras):
            self._scoring.set()

    def watch(self, but: frozenset[int], stop: threading.Event) -> None:
        """Measure, then have the run stopped."""
        try:
            if not self._scoring.wait(120.0):
                return
            time.sleep(self._warm_up_s)
            assert self._status is not None
            self.dropped = frames_dropped(self._status)  # before there was a detector, frames had nowhere to go
            before, self.from_s = spent(but), time.time()
            time.sleep(self._lasting_s)
            self.seconds, self.to_s = spent(but), time.time()
            self.seconds.subtract(before)
            self.threads = threads()
        finally:
            stop.set()


def frames_dropped(status: RunStatus) -> Counter[str]:
    """Frames dropped so far by reason; those of the run's end are no loss."""
    total: Counter[str] = Counter()
    for camera in status.cameras:
        total.update(camera.counts.dropped)
    del total["shutdown"]
    return total


def untrained_model(folder: Path, size_px: tuple[int, int]) -> Path:
    """A model of one scene, ``scene``, with a card and without weights: enough for a run whose model is a stand-in.

    Args:
        folder: where it is made.
        size_px: (height, width) of its input.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True)
    (folder / WEIGHTS_FILE).write_bytes(b"")
    normal = {"scene": (tuple(np.random.default_rng(0).normal(size=_NORMAL_FRAMES)),)}
    card = ModelCard(
        model=ModelSettings(image_size_px=size_px),
        scenes=("scene",),
        levels=(LevelConstants(stride=8, channels=32, mean=-1.4, std=0.2),),
        normal_scores=normal,
        unpaired_scores=normal,
        normal_common=normal,
        normal_fps=5.0,
        provenance=Provenance(
            dataset="none", training=TrainingSettings(), completed=True, epochs=0, steps=0, train_frames=0,
            holdout_frames=0, losses={}, trained_at_s=0.0, versions={},
        ),
    )  # fmt: skip
    write_card(card, folder)
    return folder


def scored_rows(run_folder: Path) -> npt.NDArray[np.float64]:
    """When every frame was captured and scored, from what a run wrote: finished files, and journals left at its end.

    Args:
        run_folder: its ``output.folder``.

    Returns:
        Shape (frames, 2), Unix times in no order.
    """
    columns, scores = ["captured_at_s", "scored_at_s"], RunFolder(run_folder).stream_scores
    journals = list(staging_folder(scores).glob(f"*{JOURNAL_SUFFIX}"))
    twice = {f"part-{path.stem}.parquet" for path in journals}  # made of a journal that was not turned over whole
    files = [path for path in scores.rglob("*.parquet") if path.name not in twice]
    tables = [pq.ParquetFile(path).read(columns=columns) for path in files]
    for path in journals:
        batches, _ = read_journal(path)
        tables += [pa.Table.from_batches(batches).select(columns)] if batches else []
    if not tables:
        return np.empty((0, 2))
    table = pa.concat_tables([table.cast(tables[0].schema) for table in tables])
    return np.stack([table[name].to_numpy() for name in columns], axis=1)
