"""Actor that decodes several cameras, each in a thread of its own, and dispatches their newest frames."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import cast

import numpy as np

from actors.actor_client import exit_soon, start_vital_thread, this_node
from pipeline.camera_settings import CameraSettings
from pipeline.errors import BadInputError, RunError
from pipeline.evidence.writer import EvidenceWriter
from pipeline.locked_folder import touch_folder
from pipeline.logs import log_json_in_actor
from pipeline.private_folder import private_folder
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.evidence import DesiredEvidence, EvidenceReport
from pipeline.runtime.frame_counters import CounterName, FrameCounters
from pipeline.runtime.messages import CameraReport, DesiredCameraState, TakeRequest
from pipeline.runtime.plan import EvidencePlan
from pipeline.runtime.redelivery import RedeliveryQueue
from pipeline.runtime.status import ReaderStatus
from pipeline.runtime.tally import Tally
from pipeline.types import Dropped, DropReason, Frame, FrameBatch, Trouble
from pipeline.video.reader import CameraReader, make_reader
from pipeline.video.tamper import TamperMonitor

_log = logging.getLogger(__name__)

_SUPERVISE_S = 0.25
_RETRY_S = 0.01
_NOTHING_LEFT_S = 0.05
_RELEASE_WITHIN_S = 5.0  # a camera may wait that long for another process to release it before that is reported


class CameraActor:
    """Owns the reader threads of some cameras and the buffers between them and one detector.

    Args:
        size_px: (height, width) of the frames it dispatches.
        gap_s: how much earlier the other halves of their pairs are to be.
        files_at_once: files that are read at the same time; live cameras are read all at once, always.
        counters_folder: folder of the cameras' counter files; on every node within what is private to this user there,
            unless it is an absolute path.
        quarantine: folder for frames that killed detectors.
        evidence: which pictures and clips of events it is to keep; None for none.
    """

    def __init__(
        self,
        size_px: tuple[int, int],
        gap_s: float,
        files_at_once: int,
        counters_folder: Path,
        quarantine: Path,
        evidence: EvidencePlan | None = None,
    ) -> None:
        log_json_in_actor()
        os.umask(0o077)  # as in the scorer
        self._began_at_s = time.time()
        self._size_px, self._gap_s = size_px, gap_s
        self._files_at_once = files_at_once
        self._counters_folder, self._quarantine = private_folder() / counters_folder, quarantine
        self._evidence_plan, self._evidence = evidence, None
        if evidence is not None:
            elsewhere = private_folder() / f"{counters_folder.name}-evidence"
            self._evidence = EvidenceWriter(evidence.settings, evidence.output, elsewhere)
            start_vital_thread(self._evidence.write)
        self._desired = DesiredCameraState()
        self._lock = threading.Lock()  # guards the desired state and readers; never held while waiting for a frame
        self._assigned: dict[str, _AssignedCamera] = {}
        self._counter_ids: dict[str, str] = {}  # of the counters that this process has counted in
        self._unopened: dict[str, tuple[float, Trouble]] = {}  # since when, monotonic, and why
        self._stopping = False
        self._wake = threading.Event()
        self._taking = threading.Lock()  # a dead detector's last call may still be waiting for frames
        self._redelivery = RedeliveryQueue()
        self._buffers = FrameBuffers(time.monotonic, on_drop=self._count_dropped, on_take=self._number)
        start_vital_thread(self._supervise_readers)

    def configure(self, desired: DesiredCameraState) -> None:
        """Follow a desired state: start, stop and pause readers until they are as it says."""
        with self._lock:
            self._desired = desired
            self._reconcile()

    def want_evidence(self, desired: DesiredEvidence) -> None:
        """Provide these pictures and clips of events, and no others."""
        if self._evidence is not None and self._evidence_plan is not None:
            here = self._evidence_plan.is_shared or desired.node == this_node()
            self._evidence.want(desired, here=here)

    def evidence_part(self, name: str, file: str, offset: int) -> bytes:
        """Some of a file of an event that was recorded here and belongs to another node, see ``EvidenceWriter.part``.

        Raises:
            BadInputError: there is no such file.
        """
        if self._evidence is None:
            raise BadInputError("expected a run that keeps pictures and clips of events")
        return self._evidence.part(name, file, offset)

    def take(self, request: TakeRequest) -> FrameBatch | None:
        """Frames that wait, oldest first, as one batch; None when none came within the time.

        Args:
            request: who asks, and for what.
        """
        with self._taking:
            desired = self._desired
            if request.consumer != desired.consumer:
                time.sleep(min(request.timeout_s, _SUPERVISE_S))
                return None
            self._confirm(request.confirmed)
            quarantined = self._redelivery.taken_by(request.consumer, request.incarnation, desired.deaths)
            dropped = [self._quarantine_frame(frame) for frame in quarantined]
            policy, timeout_s = BatchPolicy(request.max_frames, request.wait_s), request.timeout_s
            frames = self._next_frames(policy, 0.0 if dropped else timeout_s, request.unwanted)
        if not frames and not dropped:
            if self._stopping:  # closed buffers answer at once, and would be asked without end while others drain
                time.sleep(min(request.timeout_s, _NOTHING_LEFT_S))
            return None
        return FrameBatch.of(frames, dropped)

    def report(self) -> CameraReport:
        """Its report."""
        with self._lock:
            readers = {name: assigned.status() for name, assigned in self._assigned.items()}
            reported_since = time.monotonic() - _RELEASE_WITHIN_S
            troubles = tuple(why for since, why in self._unopened.values() if since <= reported_since)
            evidence, unwritten = EvidenceReport(), ()
            if self._evidence is not None:
                evidence, unwritten = self._evidence.report()
            return CameraReport(
                self._desired.version,
                readers,
                (*troubles, *unwritten),
                node=this_node(),
                waiting=self._buffers.waiting(),
                tally=Tally(self._began_at_s, {"camera_buffer": self._buffers.waited()}),
                evidence=evidence,
            )

    def stop(self) -> None:
        """End all readers; frames that wait can still be taken."""
        with self._lock:
            self._stopping = True
            for assigned in self._assigned.values():
                assigned.reader.stop()
            self._buffers.close()
            self._reconcile()

    def abandon(self) -> None:
        """Discard frames that wait: there is no time left for them."""
        self._buffers.clear()

    def close(self) -> None:
        """Delete the counter files: the counts are final."""
        with self._lock:
            for assigned in self._assigned.values():
                if not assigned.released:
                    assigned.release()
                assigned.counters.remove()

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def end(self) -> None:
        """End its process, where being killed does not."""
        exit_soon()

    def _forget(self, camera_ids: Collection[str]) -> None:
        """Delete what is left of cameras that were removed: their frame counts are kept elsewhere."""
        for camera_id in camera_ids:
            assigned = self._assigned.get(camera_id)
            if assigned is not None and assigned.released:
                assigned.counters.remove()
                del self._assigned[camera_id]

    def _next_frames(self, policy: BatchPolicy, timeout_s: float, unwanted: frozenset[str]) -> list[Frame]:
        if not self._redelivery.has_retries:
            frames = self._buffers.take(policy, timeout_s, unwanted)
            self._redelivery.add([frame for frame in frames if not self._assigned[frame.header.camera_id].reader.live])
            return frames
        retry = self._redelivery.next_retry()
        if retry is None:  # the one before it is still in the detector
            time.sleep(min(timeout_s, _RETRY_S))
            return []
        return [retry]

    def _confirm(self, confirmed: Mapping[str, int]) -> None:
        self._redelivery.confirm(confirmed)
        with self._lock:  # counters that are closed can no longer be written to
            for camera_id, serial in confirmed.items():
                assigned = self._assigned.get(camera_id)
                if assigned is not None and not assigned.reader.live and not assigned.released:
                    assigned.counters["confirmed"] = max(serial, assigned.counters["confirmed"])

    def _quarantine_frame(self, frame: Frame) -> Dropped:
        """Keep a frame that killed detectors where somebody can look at it."""
        header = frame.header
        name = f"{header.camera_id}-{header.session}-{header.index}"
        path = self._quarantine / name
        about = {"camera": header.camera_id, "session": header.session}
        _log.error("%s: this frame was in a detector each time it died; it is set aside", path, extra=about)
        try:
            self._quarantine.mkdir(parents=True, exist_ok=True)
            np.save(path.with_name(f"{name}.npy"), frame.image, allow_pickle=False)
            said = asdict(header)
            if frame.previous is not None:  # without it the frame would not score again as it did
                np.save(path.with_name(f"{name}-previous.npy"), frame.previous.luma, allow_pickle=False)
                said["gap_s"] = frame.previous.gap_s
            path.with_name(f"{name}.json").write_text(json.dumps(said, default=str) + "\n", encoding="utf-8")
        except OSError as error:
            _log.error("%s: it could not be kept: %s", path, error, extra=about)
        return Dropped(header, "quarantined")

    def _count_dropped(self, frame: Frame, reason: DropReason) -> None:
        self._assigned[frame.header.camera_id].counters.add(cast("CounterName", reason))

    def _number(self, frame: Frame) -> Frame:
        assigned = self._assigned[frame.header.camera_id]
        counters = assigned.counters
        counter_id = counters.counter_id if assigned.reader.live else f"{frame.header.session}"
        header = replace(frame.header, serial=counters["dispatched"], counter_id=counter_id)
        numbered = Frame(header, frame.image, frame.previous)
        counters.add("dispatched")
        return numbered

    def _supervise_readers(self) -> None:
        """Watch over the readers, and start those that had to wait for another to end."""
        while True:
            self._wake.wait(_SUPERVISE_S)
            self._wake.clear()
            touch_folder(self._counters_folder)
            with self._lock:
                for assigned in self._assigned.values():
                    if not assigned.released:
                        assigned.reader.check()
                self._reconcile()

    def _reconcile(self) -> None:
        """Bring the readers closer to the desired state; called again until they are there."""
        wanted = {} if self._stopping else {camera.id: camera for camera in self._desired.cameras}
        for camera_id, assigned in self._assigned.items():
            if assigned.released:
                continue
            assigned.reader.paced = self._desired.paced
            if not self._stopping and wanted.get(camera_id) != assigned.settings:
                assigned.reader.stop()
                self._buffers.remove_camera(camera_id)
                if assigned.reader.status().ended:
                    assigned.release()  # whoever reads the camera next needs its counter file
                    if self._evidence is not None:
                        self._evidence.release(camera_id)
            elif camera_id in self._desired.paused:
                assigned.reader.pause()
            else:
                assigned.reader.resume()
        self._unopened = {name: why for name, why in self._unopened.items() if name in wanted}
        for camera_id, settings in wanted.items():
            assigned = self._assigned.get(camera_id)
            if assigned is None or assigned.released:
                self._open(settings)
        self._forget(self._desired.forgotten - wanted.keys())
        self._start_waiting()

    def _open(self, settings: CameraSettings) -> None:
        try:
            counters = FrameCounters(self._counters_folder / settings.id)
        except RunError as error:  # another process has not released it yet, or the disk is full: tried again
            why = f"camera {settings.id} is not read"
            self._unopened.setdefault(settings.id, (time.monotonic(), Trouble(why, f"{why}: {error}")))
            return
        self._unopened.pop(settings.id, None)
        session = self._desired.sessions.get(settings.id, 0)
        if not counters.resumed:
            counters["session"] = session
        elif settings.is_live and not self._goes_on(settings.id, counters.counter_id):
            counters.renew(session)
        self._counter_ids[settings.id] = counters.counter_id
        reference = self._desired.scene_references.get(settings.id)
        reader = make_reader(
            settings,
            self._size_px,
            self._buffers,
            counters,
            gap_s=self._gap_s,
            make_watch=lambda: TamperMonitor(settings.health, reference),
            make_keeper=lambda: None if self._evidence is None else self._evidence.keeper(settings),
            start_thread=self._start_thread,
        )
        reader.paced = self._desired.paced
        self._assigned[settings.id] = _AssignedCamera(settings, reader, counters)

    def _goes_on(self, camera_id: str, counter_id: str) -> bool:
        """Whether these are the counters in which a camera was counted last, here or elsewhere."""
        last = self._desired.counter_ids.get(camera_id, counter_id)
        return counter_id in {last, self._counter_ids.get(camera_id)}

    def _start_waiting(self) -> None:
        """Start readers that have not been: live ones at once, files a few at a time."""
        started = [r for r in self._assigned.values() if r.started and not r.reader.live and not r.status().ended]
        room = self._files_at_once - len(started)
        for assigned in self._assigned.values():
            if assigned.started or assigned.released or self._stopping:
                continue
            if not assigned.reader.live:
                if room <= 0:
                    continue
                room -= 1
            assigned.started = True
            assigned.reader.start()

    def _start_thread(self, task: Callable[[], None]) -> None:
        @wraps(task)
        def run() -> None:
            task()
            self._wake.set()  # another file may start now

        start_vital_thread(run)


@dataclass(slots=True)
class _AssignedCamera:
    """A camera as this process reads it, or has read it."""

    settings: CameraSettings
    reader: CameraReader
    counters: FrameCounters
    started: bool = False
    final: ReaderStatus | None = None

    @property
    def released(self) -> bool:
        """Whether this process has released it."""
        return self.final is not None

    def status(self) -> ReaderStatus:
        return self.final or self.reader.status()

    def release(self) -> None:
        self.final = self.reader.status()
        self.counters.close()
