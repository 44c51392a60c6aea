"""Actor that runs one model on one device over frames of any cameras."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from actors.actor_client import ActorClient, exit_soon, start_vital_thread, this_node
from actors.model_server import copier_from
from actors.result_sender import FrameResults, ResultSender
from pipeline.config import RuntimeSettings
from pipeline.logs import log_json_in_actor
from pipeline.models.fetching import held_model
from pipeline.models.source import ModelSource
from pipeline.runtime.batching import BatchPolicy, CompanyWait
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.messages import CameraRole, DesiredDetectorState, DetectorReport, TakeRequest
from pipeline.runtime.parts import GatheredParts
from pipeline.runtime.plan import Predict
from pipeline.runtime.slices import ScorerSlices
from pipeline.runtime.tally import BATCH_FRAMES, SECONDS, DetectorLoad, Histogram, Tally
from pipeline.types import Dropped, DropReason, Frame, FrameBatch, Prediction

if TYPE_CHECKING:  # it imports torch
    from pipeline.inference.tuning import Tuning

_log = logging.getLogger(__name__)

_TAKE_TIMEOUT_S = 1.0  # how long a camera process may wait for a frame before it answers "none"
_LOOK_AGAIN_S = 0.02  # the same while a scorer is behind: it may be back before a frame of another's camera comes
_ANSWER_TIMEOUT_S = 30.0  # how long an answer of a living actor may take on an overloaded machine


@dataclass(frozen=True, slots=True)
class DetectorPlan:
    """What a detector is built from.

    Attributes:
        name: of the actor.
        model: where it gets its model.
        device: torch device.
        threads: CPU threads for torch.
        batch_frames: frames in a batch at most.
        scorers: names of the scorer actors, by number.
        runtime: how the model is run.
        load_stand_in: as in ``RunPlan``.
    """

    name: str
    model: ModelSource
    device: str
    threads: int
    batch_frames: int
    scorers: tuple[str, ...]
    runtime: RuntimeSettings
    load_stand_in: Callable[[], Predict] | None = None


class DetectorActor:
    """Owns the model and threads: one feeder per camera process, one that predicts and sends, one per scorer.

    While a scorer is away, frames of its cameras wait in their camera processes, where newer ones take the place of
    older ones; what is here of them is predicted and kept for it. Nobody else's frames wait.
    """

    def __init__(self, plan: DetectorPlan) -> None:
        log_json_in_actor()
        self._plan = plan
        self._incarnation = uuid.uuid4().hex
        self._tuning = ""
        self._model_held = ExitStack()
        self._predict_batch = self._load(plan)
        self._desired = DesiredDetectorState()
        self._feeding: set[str] = set()
        self._roles: dict[str, CameraRole] = {}  # former cameras, too: frames of them may still be here
        self._held: Counter[str] = Counter()  # frames in here, by camera
        self._process_of: dict[str, str] = {}
        self._lock = threading.Lock()  # guards the five above
        self._confirmed: dict[str, int] = {}
        self._load_so_far = DetectorLoad()  # replaced by the thread that predicts alone
        self._began_at_s = time.time()
        self._predicted, self._batches = Histogram(SECONDS), Histogram(BATCH_FRAMES)
        # What became of frames that left the inbox, in the order in which they left it, which is each camera's own.
        self._left_inbox: deque[Frame | Dropped] = deque()
        self._inbox = FrameBuffers(
            time.monotonic, on_drop=self._note_dropped, on_take=self._note_taken, spare=plan.batch_frames
        )
        self._company = CompanyWait(plan.runtime.batch_wait_s)
        self._only_live = False  # a file's decoder stands still while its frames wait for more of them
        self._slices = ScorerSlices(plan.scorers)
        self._parts = GatheredParts[Prediction | Dropped](self._slices, _camera_of)
        model = plan.model.fingerprint
        self._senders = {
            name: ResultSender(ActorClient(name), model, self._on_confirmed, is_only=len(plan.scorers) == 1)
            for name in plan.scorers
        }
        start_vital_thread(self._predict)
        for sender in self._senders.values():
            start_vital_thread(sender.confirm)

    def configure(self, desired: DesiredDetectorState) -> None:
        """Follow a desired state: take from these camera processes and no others."""
        with self._lock:
            self._desired = desired
            self._roles.update(desired.cameras)
            live = sum(role.live for role in desired.cameras.values())
            self._only_live = live == len(desired.cameras)
            for camera_id, role in desired.cameras.items():
                self._open_inbox(camera_id, role, live)
            for name in desired.processes:
                if name not in self._feeding:
                    self._feeding.add(name)
                    start_vital_thread(self._feed, name)

    def report(self) -> DetectorReport:
        """Its report."""
        with self._lock:
            processes = set(self._desired.processes)
            # A feeder that is to end may still be given frames.
            holding = Counter(dict.fromkeys(self._feeding - processes, 1))
            for camera_id, count in self._held.items():
                holding[self._process_of[camera_id]] += count
            waiting, oldest_s = self._inbox.backlog()
            load = replace(self._load_so_far, waiting=waiting, oldest_s=oldest_s)
            return DetectorReport(
                self._desired.version,
                holding,
                self._tuning,
                load,
                this_node(),
                self._tally(),
                self._plan.model.fingerprint,
            )

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def end(self) -> None:
        """End its process, where being killed does not."""
        exit_soon()

    def _tally(self) -> Tally:
        histograms = {
            "inbox": self._inbox.waited(),
            "prediction": self._predicted.counts(),
            "batch_frames": self._batches.counts(),
        }
        return Tally(self._began_at_s, histograms)

    def _load(self, plan: DetectorPlan) -> Predict:
        """Load the model; gives what turns frames and their cameras' roles into predictions."""
        if plan.load_stand_in is not None:
            return plan.load_stand_in()
        # Here and not above: the supervisor imports this module to create the actor, and must not pay for torch.
        import torch

        from pipeline.inference.engine import Engine

        torch.set_num_threads(plan.threads)
        server = plan.model.server
        copy = None if server is None else copier_from(ActorClient(server), plan.model)
        # As long as this process lives: what it compiles is made of these files, too.
        folder, card = self._model_held.enter_context(held_model(plan.model, copy))
        engine = Engine.ready(
            folder,
            plan.runtime,
            device=plan.device,
            card=card,
            agree=partial(_agreed, ActorClient(plan.scorers[0]), plan.model.fingerprint),
        )
        self._tuning = str(engine.tuning)
        return engine.predict_as

    def _open_inbox(self, camera_id: str, role: CameraRole, live_cameras: int) -> None:
        """Open a camera's buffer.

        Live cameras together fill about one batch: more would only age here, where newer frames cannot replace them.
        """
        max_frames = self._plan.batch_frames
        if role.live:
            depth = max(1, max_frames // max(1, live_cameras))
            self._inbox.add_camera(camera_id, depth, "drop_oldest", role.max_frame_age_s)
        else:
            self._inbox.add_camera(camera_id, max_frames, "block")

    def _feed(self, name: str) -> None:
        """Keep one request in flight at a camera process and sort its frames into the inbox."""
        client = ActorClient(name)
        while True:
            with self._lock:
                if name not in self._desired.processes:
                    self._feeding.discard(name)
                    return
            unwanted = self._unwanted()
            batch: FrameBatch | None = client.call(
                "take",
                TakeRequest(
                    self._plan.name,
                    self._incarnation,
                    dict(self._confirmed),
                    self._plan.batch_frames,
                    _LOOK_AGAIN_S if unwanted else _TAKE_TIMEOUT_S,
                    unwanted,
                    self._wait_s() if self._only_live else 0.0,
                ),
                answer_within_s=_ANSWER_TIMEOUT_S,
            )
            if batch is not None:
                self._receive(name, batch)

    def _unwanted(self) -> frozenset[str]:
        """Cameras of which no frames are asked for at present, since their scorer is behind."""
        behind = {name for name, sender in self._senders.items() if sender.is_behind}
        if not behind:
            return frozenset()
        with self._lock:
            return frozenset(name for name in self._desired.cameras if self._slices.scorer_of(name) in behind)

    def _receive(self, process: str, batch: FrameBatch) -> None:
        with self._lock:
            self._company.add(len(batch), time.monotonic())
            for header in (*batch.headers, *(dropped.header for dropped in batch.dropped)):
                self._process_of[header.camera_id] = process
                self._held[header.camera_id] += 1
        self._left_inbox.extend(batch.dropped)
        for frame in self._inbox.put_all(batch.frames()):
            camera_id = frame.header.camera_id
            said = "camera %s: expected a camera that this detector is to score"
            _log.error(said, camera_id, extra={"camera": camera_id, "session": frame.header.session})
            self._left_inbox.append(Dropped(frame.header, "detector_lost"))

    def _note_dropped(self, frame: Frame, reason: DropReason) -> None:
        self._left_inbox.append(Dropped(frame.header, reason))

    def _note_taken(self, frame: Frame) -> Frame:
        self._left_inbox.append(frame)
        return frame

    def _predict(self) -> None:
        """Close batches and run the model on them."""
        while True:
            policy = BatchPolicy(self._plan.batch_frames, self._wait_s())
            frames = self._inbox.take(policy, timeout_s=_TAKE_TIMEOUT_S)
            left = self._pop_left(len(frames))
            predictions = iter(self._predictions(frames))
            results = [item if isinstance(item, Dropped) else next(predictions) for item in left]
            for name, own in self._parts.add(results, time.monotonic(), lambda: self._inbox.waiting() > 0):
                self._senders[name].send(own)

    def _wait_s(self) -> float:
        """How long a frame may wait for others in its camera process, and again here: half of the whole at each."""
        if not self._only_live and self._plan.runtime.batch_wait_s is None:
            return 0.0
        return self._company.wait_s(time.monotonic()) / 2

    def _predictions(self, frames: list[Frame]) -> list[Prediction]:
        if not frames:
            return []
        started_at, so_far = time.perf_counter(), self._load_so_far
        batch = FrameBatch.of(frames)
        predictions = self._predict_batch(batch, [self._roles[header.camera_id] for header in batch.headers])
        took_s = time.perf_counter() - started_at
        self._predicted.add(took_s, times=len(frames))
        self._batches.add(len(frames))
        self._load_so_far = DetectorLoad(
            busy_s=so_far.busy_s + took_s,
            batches=so_far.batches + 1,
            frames=so_far.frames + len(frames),
        )
        return predictions

    def _pop_left(self, taken: int) -> list[Frame | Dropped]:
        """What has left the inbox, up to the frames just taken, in the order in which it left."""
        left: list[Frame | Dropped] = []
        while self._left_inbox and (taken > 0 or isinstance(self._left_inbox[0], Dropped)):
            left.append(self._left_inbox.popleft())
            taken -= isinstance(left[-1], Frame)
        return left

    def _on_confirmed(self, results: FrameResults) -> None:
        """The scorer knows of these frames."""
        with self._lock:
            for result in results:
                camera_id = result.header.camera_id
                self._held[camera_id] -= 1
                # Of live cameras nobody asks: their frames are not redelivered.
                if not self._roles[camera_id].live:
                    self._confirmed[camera_id] = result.header.serial + 1


def _camera_of(result: Prediction | Dropped) -> str:
    return result.header.camera_id


def _agreed(scorer: ActorClient, model: str, tuning: Tuning) -> Tuning:
    """How the run's detectors run a model. Measured by each for itself, one frame could get two scores."""
    while (said := scorer.call("agree", tuning.as_json(), model, answer_within_s=_ANSWER_TIMEOUT_S)) is None:
        pass  # it is restarting; ``call`` has waited a moment
    return tuning.of_json(said)
