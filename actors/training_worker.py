"""What each process does that fits a model together with others, under Ray Train.

Ray Train starts the workers, connects them, and starts all of them afresh when one dies; what they do is
``pipeline.training``. State and result go to the ``TrainingStore``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed
from ray.exceptions import RayError
from torch import Tensor

from actors.training_store import Outcome, WorkerProgress
from pipeline.config import Config
from pipeline.datasets.base import Dataset
from pipeline.errors import CflowError
from pipeline.model_settings import ModelSettings
from pipeline.models.encoder import bare_encoder
from pipeline.redaction import redact
from pipeline.training.state import STATE_FILE, SavedState, load_state, save_state
from pipeline.training.train import TrainingTask, fit_and_measure
from pipeline.training.workers import Workers

_TELL_EVERY_S = 0.2


@dataclass(frozen=True)
class Job:
    """A ``TrainingTask`` as it travels, and where it is done.

    Attributes:
        config: as for ``TrainingTask``.
        dataset: as for ``TrainingTask``.
        model: as for ``TrainingTask``.
        encoder: weights of its backbone: no node needs to reach a model hub.
        features_key: as for ``TrainingTask``.
        device: ``cuda`` or ``cpu``.
        threads: for torch to use.
        features: folder of cached features, the same path on every node.
        store: the ``TrainingStore``.
    """

    config: Config
    dataset: Dataset
    model: ModelSettings
    encoder: Mapping[str, Tensor]
    features_key: str
    device: str
    threads: int
    features: Path
    store: Any

    def task(self) -> TrainingTask:
        """The task, with an encoder of its own."""
        encoder = bare_encoder(self.model.encoder)
        encoder.backbone.load_state_dict(dict(self.encoder))
        return TrainingTask(self.config, self.dataset, self.model, encoder, self.features_key)


def work(options: Mapping[str, Any]) -> None:
    """Fit the model with the others; Ray Train calls this in every worker.

    Args:
        options: holds the ``Job`` as ``job``.
    """
    job: Job = options["job"]
    torch.set_num_threads(job.threads)
    workers = Workers(torch.distributed.group.WORLD)
    may_begin = ray.get(job.store.begin.remote(workers.count)) if workers.is_first else True
    if not all(workers.tell(may_begin)):
        return
    progress = _Told(job.store, workers.rank)
    try:
        outcome = _outcome(job, progress, workers)
    except BaseException as error:
        ray.get(job.store.failed.remote(redact(f"{type(error).__name__}: {error}"[:300])))
        raise
    progress.flush()
    if workers.is_first:
        ray.get(job.store.end.remote(outcome))


def _outcome(job: Job, progress: _Told, workers: Workers) -> Outcome:
    try:
        trained = fit_and_measure(
            job.task(), job.device, job.features, lambda _: _StoredStates(job.store), progress, workers
        )
    except CflowError as error:  # that of all workers: it is no use to start them again
        return Outcome(error=(type(error).__name__, str(error)))
    except KeyboardInterrupt:
        return Outcome()
    return Outcome(trained)


class _Told:
    """A ``TrainingProgress`` that tells the store, at most a few times per second and without waiting for it."""

    def __init__(self, store: Any, rank: int) -> None:
        self._store, self._rank = store, rank
        self._now = WorkerProgress()
        self._due_at_s = 0.0
        self._answer: ray.ObjectRef | None = None
        self._is_stopping = False

    def features(self, done: int, total: int) -> None:
        self._tell(replace(self._now, features=(done, total)))

    def passed_over(self, line: str) -> None:
        self._tell(replace(self._now, passed_over=(*self._now.passed_over, line)))

    def models(self, count: int) -> None:
        """Several workers cross-fit nothing."""

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[str, float]) -> None:
        self._tell(replace(self._now, step=(epoch, step, total_steps, dict(losses))))
        if self._is_stopping:
            raise KeyboardInterrupt

    def heldout(self, done: int, total: int) -> None:
        self._tell(replace(self._now, heldout=(done, total)))

    def flush(self) -> None:
        """Tell what was not told yet."""
        ray.get(self._store.tell.remote(self._rank, self._now))

    def _tell(self, progress: WorkerProgress) -> None:
        self._now = progress
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            with suppress(RayError):  # the store is being started again
                self._is_stopping = ray.get(self._answer)
            self._answer = None
        if self._answer is None and time.monotonic() >= self._due_at_s:
            self._answer = self._store.tell.remote(self._rank, progress)
            self._due_at_s = time.monotonic() + _TELL_EVERY_S


class _StoredStates:
    """``States`` that the store keeps."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def load(self, key: str) -> SavedState | None:
        data: bytes | None = ray.get(self._store.state.remote())
        if data is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, STATE_FILE)
            path.write_bytes(data)
            return load_state(path, key)

    def save(self, key: str, state: SavedState) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, STATE_FILE)
            save_state(path, key, state)
            data = path.read_bytes()
        try:
            ray.get(self._store.keep_state.remote(data))
        except RayError as error:
            raise OSError(str(error).splitlines()[-1]) from error
