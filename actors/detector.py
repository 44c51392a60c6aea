"""Actor that runs one model on one device over frames of any cameras."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from actors.peers import Peer, start_vital_thread
from pipeline.config import ModelSettings
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.types import Frame, FrameBatch, Prediction

_log = logging.getLogger(__name__)

_TAKE_TIMEOUT_S = 1.0  # how long a camera process may wait for a frame before it answers "none"
_ANSWER_TIMEOUT_S = 30.0  # how long an answer of a living peer may take on an overloaded machine
_RETRY_S = 0.2
_CALLS_IN_FLIGHT = 8  # unanswered batches at the scorer: bounds memory, keeps the device busy


@dataclass(frozen=True, slots=True)
class DetectorPlan:
    """What a detector is built from.

    Attributes:
        model_folder: the checkpoint.
        expected_model: settings that the checkpoint must have been trained with, or None.
        device: torch device.
        threads: CPU threads for torch.
        batch: when a batch is closed.
        camera_processes: names of the camera actors it takes from.
        scenes: camera id to the name of its scene in the model, for the cameras of those actors.
        live: ids of those cameras that are live.
        scorer: name of the scorer actor.
    """

    model_folder: Path
    expected_model: ModelSettings | None
    device: str
    threads: int
    batch: BatchPolicy
    camera_processes: tuple[str, ...]
    scenes: dict[str, str]
    live: frozenset[str]
    scorer: str


class DetectorActor:
    """Owns the model, one feeder thread per camera process, one inference thread and one sending thread."""

    def __init__(self, plan: DetectorPlan) -> None:
        # Here and not above: the supervisor imports this module to create the actor, and must not pay for torch.
        import torch

        from pipeline.inference.engine import Engine

        torch.set_num_threads(plan.threads)
        self._plan = plan
        self._engine = Engine.load(plan.model_folder, device=plan.device, expected=plan.expected_model)
        self._inbox = _open_inbox(plan)
        self._outbox: Queue[list[Prediction]] = Queue(maxsize=_CALLS_IN_FLIGHT)
        for name in plan.camera_processes:
            start_vital_thread(self._feed, name)
        start_vital_thread(self._predict)
        start_vital_thread(self._send)

    def overloaded(self) -> dict[str, int]:
        """Frames that gave way to newer ones in here, by camera id."""
        return {camera_id: self._inbox.overloaded(camera_id) for camera_id in self._plan.scenes}

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _feed(self, name: str) -> None:
        """Keep one request in flight at a camera process and sort its frames into the inbox."""
        peer = Peer(name)
        while True:
            batch: FrameBatch | None = peer.call(
                "take", self._plan.batch.max_frames, _TAKE_TIMEOUT_S, answer_within_s=_ANSWER_TIMEOUT_S
            )
            if batch is None:
                continue
            for header, image in zip(batch.headers, batch.images, strict=True):
                # A copy: a slice would keep the whole received array in the object store.
                self._inbox.put(Frame(header, image.copy()))

    def _predict(self) -> None:
        """Close batches and run the model on them."""
        while True:
            frames = self._inbox.take(self._plan.batch, timeout_s=_TAKE_TIMEOUT_S)
            if not frames:
                continue
            batch = FrameBatch(tuple(frame.header for frame in frames), np.stack([frame.image for frame in frames]))
            scenes = [self._plan.scenes[header.camera_id] for header in batch.headers]
            self._outbox.put(self._engine.predict(batch, scenes, maps=True))

    def _send(self) -> None:
        """Push predictions to the scorer in order, a few calls in flight."""
        scorer = Peer(self._plan.scorer)
        unanswered: deque[_Call] = deque()
        while True:
            if unanswered and (len(unanswered) >= _CALLS_IN_FLIGHT or self._outbox.empty()):
                _confirm_oldest(scorer, unanswered)
            else:
                unanswered.append(_Call(scorer, self._outbox.get()))


class _Call:
    """A batch of predictions on its way to the scorer."""

    def __init__(self, scorer: Peer, predictions: list[Prediction]) -> None:
        self.predictions = predictions
        self.repeat(scorer)

    def repeat(self, scorer: Peer) -> None:
        """Send it (again)."""
        self.reference = scorer.submit("add", self.predictions)

    def arrived(self) -> bool:
        """Wait, within bounds, until the scorer has taken it."""
        if self.reference is None:
            return False
        try:
            ray.get(self.reference, timeout=_ANSWER_TIMEOUT_S)
        except RayTaskError:  # it arrived and could not be scored; a second time it could not either
            _log.exception("the scorer failed on %d frames", len(self.predictions))
        except RayError:
            return False
        return True


def _confirm_oldest(scorer: Peer, unanswered: deque[_Call]) -> None:
    """Wait for the oldest call; where it failed, send it and all after it again, in order.

    The scorer ignores frames it has seen, so a call that did arrive does no harm the second time.
    """
    if unanswered[0].arrived():
        unanswered.popleft()
        return
    time.sleep(_RETRY_S)
    for call in unanswered:
        call.repeat(scorer)


def _open_inbox(plan: DetectorPlan) -> FrameBuffers:
    """Buffers for the plan's cameras.

    Live cameras together fill about one batch: more would only age in here, where newer frames cannot replace them.
    """
    inbox = FrameBuffers(time.monotonic)
    live_depth = max(1, plan.batch.max_frames // max(1, len(plan.scenes)))
    for camera_id in plan.scenes:
        if camera_id in plan.live:
            inbox.add_camera(camera_id, live_depth, "drop_oldest")
        else:
            inbox.add_camera(camera_id, plan.batch.max_frames, "block")
    return inbox
