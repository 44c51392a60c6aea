"""Actor that decodes several cameras, each in a thread of its own, and hands out their newest frames."""

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

from actors.peers import start_vital_thread
from pipeline.config import CameraSettings
from pipeline.errors import RunError
from pipeline.held_folder import tend_folder
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.handover import Unconfirmed
from pipeline.runtime.ledger import CameraLedger, Slot
from pipeline.runtime.messages import CameraOrder, CameraReport, TakeRequest
from pipeline.runtime.status import ReaderStatus
from pipeline.types import Dropped, DropReason, Frame, FrameBatch, Trouble, stacked
from pipeline.video.reader import CameraReader, make_reader
from pipeline.video.scene import SceneWatch

_log = logging.getLogger(__name__)

_TEND_S = 0.25
_SUSPECT_S = 0.01
_NOTHING_LEFT_S = 0.05
_HANDOVER_S = 5.0  # a camera may wait that long for another process to let go of it, without a word


class CameraActor:
    """Owns the reader threads of some cameras and the buffers between them and one detector.

    Args:
        size_px: (height, width) of the frames it hands out.
        files_at_once: files that are read at the same time; live cameras are read all at once, always.
        ledgers: folder of the cameras' ledgers, on this node.
        quarantine: folder for frames that killed detectors.
    """

    def __init__(self, size_px: tuple[int, int], files_at_once: int, ledgers: Path, quarantine: Path) -> None:
        os.umask(0o077)  # as in the scorer
        self._size_px = size_px
        self._files_at_once = files_at_once
        self._ledgers, self._quarantine = ledgers, quarantine
        self._order = CameraOrder()
        self._lock = threading.Lock()  # guards order and readers; never held while waiting for a frame
        self._readings: dict[str, _Reading] = {}
        self._unopened: dict[str, tuple[float, Trouble]] = {}  # since when, monotonic, and why
        self._stopping = False
        self._wake = threading.Event()
        self._taking = threading.Lock()  # a dead detector's last call may still be waiting for frames
        self._unconfirmed = Unconfirmed()
        self._buffers = FrameBuffers(time.monotonic, on_drop=self._count_dropped, on_take=self._number)
        start_vital_thread(self._tend)

    def configure(self, order: CameraOrder) -> None:
        """Follow an order: start, stop and pause readers until they are as it says."""
        with self._lock:
            self._order = order
            self._reconcile()

    def take(self, request: TakeRequest) -> FrameBatch | None:
        """Frames that wait, oldest first, as one array; None when none came within the time.

        Args:
            request: who asks, and for what.
        """
        with self._taking:
            order = self._order
            if request.consumer != order.consumer:
                time.sleep(min(request.timeout_s, _TEND_S))
                return None
            self._confirm(request.confirmed)
            killers = self._unconfirmed.taken_by(request.consumer, request.incarnation, order.deaths)
            dropped = [self._set_aside(frame) for frame in killers]
            frames = self._next_frames(request.max_frames, 0.0 if dropped else request.timeout_s)
        if not frames and not dropped:
            if self._stopping:  # closed buffers answer at once, and would be asked without end while others drain
                time.sleep(min(request.timeout_s, _NOTHING_LEFT_S))
            return None
        images = stacked([frame.image for frame in frames]) if frames else np.empty((0, *self._size_px, 3), np.uint8)
        return FrameBatch(tuple(frame.header for frame in frames), images, tuple(dropped))

    def report(self) -> CameraReport:
        """How it stands."""
        with self._lock:
            readers = {name: reading.status() for name, reading in self._readings.items()}
            told_since = time.monotonic() - _HANDOVER_S
            troubles = tuple(why for since, why in self._unopened.values() if since <= told_since)
            return CameraReport(self._order.version, readers, troubles)

    def stop(self) -> None:
        """End all readers; frames that wait can still be taken."""
        with self._lock:
            self._stopping = True
            for reading in self._readings.values():
                reading.reader.stop()
            self._buffers.close()
            self._reconcile()

    def abandon(self) -> None:
        """Discard frames that wait: there is no time left for them."""
        self._buffers.clear()

    def close(self) -> None:
        """Delete the ledgers: the books are closed."""
        with self._lock:
            for reading in self._readings.values():
                if not reading.over:
                    reading.let_go()
                reading.ledger.remove()

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _forget(self, camera_ids: Collection[str]) -> None:
        """Delete what is left of cameras that were removed: their books are kept elsewhere."""
        for camera_id in camera_ids:
            reading = self._readings.get(camera_id)
            if reading is not None and reading.over:
                reading.ledger.remove()
                del self._readings[camera_id]

    def _next_frames(self, max_frames: int, timeout_s: float) -> list[Frame]:
        if not self._unconfirmed.suspects:
            frames = self._buffers.take(BatchPolicy(max_frames, max_wait_s=0.0), timeout_s)
            self._unconfirmed.add([frame for frame in frames if not self._readings[frame.header.camera_id].reader.live])
            return frames
        suspect = self._unconfirmed.next_suspect()
        if suspect is None:  # the one before it is still in the detector
            time.sleep(min(timeout_s, _SUSPECT_S))
            return []
        return [suspect]

    def _confirm(self, confirmed: Mapping[str, int]) -> None:
        self._unconfirmed.confirm(confirmed)
        with self._lock:  # a ledger that is let go of can no longer be written to
            for camera_id, serial in confirmed.items():
                reading = self._readings.get(camera_id)
                if reading is not None and not reading.reader.live and not reading.over:
                    reading.ledger["confirmed"] = max(serial, reading.ledger["confirmed"])

    def _set_aside(self, frame: Frame) -> Dropped:
        """Keep a frame that killed detectors where somebody can look at it."""
        header = frame.header
        path = self._quarantine / f"{header.camera_id}-{header.session}-{header.index}"
        _log.error("%s: this frame was in a detector each time it died; it is set aside", path)
        try:
            self._quarantine.mkdir(parents=True, exist_ok=True)
            np.save(path.with_suffix(".npy"), frame.image, allow_pickle=False)
            path.with_suffix(".json").write_text(json.dumps(asdict(header), default=str) + "\n", encoding="utf-8")
        except OSError as error:
            _log.error("%s: it could not be kept: %s", path, error)
        return Dropped(header, "quarantined")

    def _count_dropped(self, frame: Frame, reason: DropReason) -> None:
        self._readings[frame.header.camera_id].ledger.add(cast("Slot", reason))

    def _number(self, frame: Frame) -> Frame:
        ledger = self._readings[frame.header.camera_id].ledger
        numbered = Frame(replace(frame.header, serial=ledger["handed"]), frame.image)
        ledger.add("handed")
        return numbered

    def _tend(self) -> None:
        """Watch over the readers, and start those that had to wait for another to end."""
        while True:
            self._wake.wait(_TEND_S)
            self._wake.clear()
            tend_folder(self._ledgers)
            with self._lock:
                for reading in self._readings.values():
                    if not reading.over:
                        reading.reader.check()
                self._reconcile()

    def _reconcile(self) -> None:
        """Bring the readers closer to what the order says; called again until they are there."""
        wanted = {} if self._stopping else {camera.id: camera for camera in self._order.cameras}
        for camera_id, reading in self._readings.items():
            if reading.over:
                continue
            reading.reader.paced = self._order.paced
            if not self._stopping and wanted.get(camera_id) != reading.settings:
                reading.reader.stop()
                self._buffers.remove_camera(camera_id)
                if reading.reader.status().ended:
                    reading.let_go()  # whoever reads the camera next needs its ledger
            elif camera_id in self._order.paused:
                reading.reader.pause()
            else:
                reading.reader.resume()
        self._unopened = {name: why for name, why in self._unopened.items() if name in wanted}
        for camera_id, settings in wanted.items():
            reading = self._readings.get(camera_id)
            if reading is None or reading.over:
                self._open(settings)
        self._forget(self._order.forgotten - wanted.keys())
        self._start_waiting()

    def _open(self, settings: CameraSettings) -> None:
        try:
            ledger = CameraLedger(self._ledgers / settings.id)
        except RunError as error:  # another process has not let go of it yet, or the disk is full: tried again
            why = f"camera {settings.id} is not read"
            self._unopened.setdefault(settings.id, (time.monotonic(), Trouble(why, f"{why}: {error}")))
            return
        self._unopened.pop(settings.id, None)
        if not ledger.resumed:
            ledger["session"] = self._order.sessions.get(settings.id, 0)
        view = self._order.views.get(settings.id)
        reader = make_reader(
            settings,
            self._size_px,
            self._buffers,
            ledger,
            make_watch=lambda: SceneWatch(settings.health, view),
            start_thread=self._start_thread,
        )
        reader.paced = self._order.paced
        self._readings[settings.id] = _Reading(settings, reader, ledger)

    def _start_waiting(self) -> None:
        """Start readers that have not been: live ones at once, files a few at a time."""
        started = [r for r in self._readings.values() if r.started and not r.reader.live and not r.status().ended]
        room = self._files_at_once - len(started)
        for reading in self._readings.values():
            if reading.started or reading.over or self._stopping:
                continue
            if not reading.reader.live:
                if room <= 0:
                    continue
                room -= 1
            reading.started = True
            reading.reader.start()

    def _start_thread(self, task: Callable[[], None]) -> None:
        @wraps(task)
        def run() -> None:
            task()
            self._wake.set()  # another file may start now

        start_vital_thread(run)


@dataclass(slots=True)
class _Reading:
    """A camera as this process reads it, or has read it."""

    settings: CameraSettings
    reader: CameraReader
    ledger: CameraLedger
    started: bool = False
    final: ReaderStatus | None = None

    @property
    def over(self) -> bool:
        """Whether this process has let go of it."""
        return self.final is not None

    def status(self) -> ReaderStatus:
        return self.final or self.reader.status()

    def let_go(self) -> None:
        self.final = self.reader.status()
        self.ledger.close()
