"""Actor that starts a run's actors, keeps the books of every camera and ends the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors import cluster
from actors.peers import start_vital_thread
from pipeline.errors import RunError
from pipeline.runtime.accounts import Settlement, merge_account
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import CameraStatus, RunStatus, ScoringStatus
from pipeline.video.reader import ReaderStatus

_START_TIMEOUT_S = 180.0  # importing torch in several processes of a small machine takes a while
_ANSWER_TIMEOUT_S = 10.0
_POLL_S = 0.25
_PUBLISH_S = 1.0
_LOSS_PATIENCE_S = 20.0  # longer than a detector needs to come back and to answer for what it holds


class Supervisor:
    """Owns the actors of one run.

    Args:
        plan: the run.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._readers: dict[str, ReaderStatus] = {}
        self._scoring: dict[str, ScoringStatus] = {}
        self._overloaded: dict[str, int] = {}
        self._settlements = {camera.id: Settlement(_LOSS_PATIENCE_S) for camera in plan.cameras}
        self._finished: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._status = RunStatus(cameras=(), done=False)
        self._published_at = 0.0

    def start(self) -> None:
        """Create all actors and wait until they answer.

        Raises:
            RunError: an actor did not come up.
        """
        self._actors = cluster.create_actors(self._plan)
        everyone = [self._actors.scorer, *self._actors.detectors, *self._actors.cameras]
        try:
            ray.get([actor.pid.remote() for actor in everyone], timeout=_START_TIMEOUT_S)
        except RayError as error:
            last_line = str(error).strip().splitlines()[-1].strip()
            raise RunError(f"an actor did not start: {last_line}") from None
        self._poll()
        start_vital_thread(self._watch)

    def status(self) -> RunStatus:
        """How the run stands."""
        return self._status

    def pids(self) -> dict[str, list[int]]:
        """Process ids of the run's actors, by role."""
        groups = {"camera": self._actors.cameras, "detector": self._actors.detectors, "scorer": (self._actors.scorer,)}
        return {
            role: ray.get([actor.pid.remote() for actor in actors], timeout=_ANSWER_TIMEOUT_S)
            for role, actors in groups.items()
        }

    def drain(self) -> None:
        """End all cameras; frames that were decoded are still scored."""
        for actor in self._actors.cameras:
            actor.stop.remote()

    def close(self) -> RunStatus:
        """Write what is held back, close files; returns how the run ended."""
        self._closing.set()
        with self._lock:
            self._collect()
            unwritten = ray.get(self._actors.scorer.close.remote(self._statuses()), timeout=60.0)
            self._status = RunStatus(self._status.cameras, self._status.done, tuple(unwritten))
        return self._status

    def _watch(self) -> None:
        while not self._closing.wait(_POLL_S):
            self._poll()

    def _poll(self) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._collect()
            self._finish_settled()
            if time.monotonic() - self._published_at >= _PUBLISH_S:
                self._published_at = time.monotonic()
                self._actors.scorer.publish.remote(self._statuses())

    def _collect(self) -> None:
        """Ask every actor for its counts; one that does not answer keeps its last ones.

        Asked in the order scorer, detectors, cameras: a frame is counted as decoded before it can be counted as scored,
        so books never show more frames scored than decoded.
        """
        for answer in _answers([self._actors.scorer], "status"):
            self._scoring.update(answer)
        for answer in _answers(self._actors.detectors, "overloaded"):
            self._overloaded.update(answer)
        for answer in _answers(self._actors.cameras, "status"):
            self._readers.update(answer)
        cameras = tuple(self._camera_status(camera_id) for camera_id in self._plan.scenes if camera_id in self._readers)
        done = len(cameras) == len(self._plan.cameras) == len(self._finished)
        self._status = RunStatus(cameras, done)

    def _camera_status(self, camera_id: str) -> CameraStatus:
        reader, scoring = self._readers[camera_id], self._scoring[camera_id]
        drops = (reader.dropped, {"overload": self._overloaded.get(camera_id, 0)}, scoring.dropped)
        settlement = self._settlements[camera_id]
        account = merge_account(reader.decoded, scoring.scored, *drops)
        settled = settlement.settled(account, reader.ended, time.monotonic())
        lost = {"detector_lost": settlement.written_off}
        return CameraStatus(
            camera_id=camera_id,
            scene=self._plan.scenes[camera_id],
            state=reader.state,
            live=reader.live,
            session=reader.session,
            account=merge_account(reader.decoded, scoring.scored, *drops, lost),
            scoring=scoring,
            corrupt_packets=reader.corrupt_packets,
            missing=reader.missing,
            error=reader.error,
            settled=settled,
        )

    def _finish_settled(self) -> None:
        """Close the events of cameras that ended."""
        newly = [c.camera_id for c in self._status.cameras if c.settled and c.camera_id not in self._finished]
        if newly and any(True for _ in _answers([self._actors.scorer], "finish", newly)):
            self._finished.update(newly)

    def _statuses(self) -> Mapping[str, dict[str, object]]:
        return {camera.camera_id: camera.as_json() for camera in self._status.cameras}


def _answers(actors: list[ActorHandle], method: str, *arguments: object) -> list:
    """Answers of those actors that are there, asked all at once."""
    references = [getattr(actor, method).remote(*arguments) for actor in actors]
    answers = []
    for reference in references:
        try:
            answers.append(ray.get(reference, timeout=_ANSWER_TIMEOUT_S))
        except RayError:  # it is restarting; the next poll asks again
            continue
    return answers
