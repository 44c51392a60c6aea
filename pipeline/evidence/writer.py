"""All evidence that one camera process provides: the rings of its cameras, and the events that are being recorded."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.abandoned import forget_abandoned
from pipeline.camera_settings import CameraSettings
from pipeline.errors import BadInputError
from pipeline.evidence.footage import FileFootage, Footage, RingFootage
from pipeline.evidence.packet_ring import PacketRing
from pipeline.evidence.recording import EventRecording, place_of
from pipeline.evidence.store import FILES
from pipeline.evidence_settings import EvidenceSettings
from pipeline.locked_folder import touch_folder
from pipeline.redaction import redact
from pipeline.runtime.evidence import DesiredEvidence, EvidenceAnswer, EvidenceReport, EvidenceRequest
from pipeline.types import Trouble
from pipeline.video.source import file_path

PART_BYTES = 1 << 20
"""Of a file that is fetched from another node: bytes in one answer."""

_ASKED_LATE_S = 10.0  # so much later than its frame an event may be heard of here
_STEP_S = 0.5
_KEPT_AFTER_S = 60.0  # a camera that was removed: its last event ends with it

_log = logging.getLogger(__name__)


class EvidenceWriter:
    """Records what is wanted, in a thread of its own: no disk holds up whoever decodes. For any thread.

    Args:
        settings: what is kept.
        output: the run's output folder.
        elsewhere: a folder of this node, for when the output folder is another node's.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        settings: EvidenceSettings,
        output: Path,
        elsewhere: Path,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._output, self._elsewhere, self._now = settings, output, elsewhere, now
        self._lock = threading.Lock()  # of what follows; never held while something is written
        self._cameras: dict[str, CameraSettings] = {}
        self._rings: dict[str, PacketRing] = {}
        self._released: dict[str, float] = {}  # when a camera was, monotonic
        self._desired, self._is_elsewhere = DesiredEvidence(), False
        self._report = EvidenceReport()
        self._trouble: Trouble | None = None
        self._wake = threading.Event()
        self._recordings: dict[str, EventRecording] = {}  # of the writing thread
        self._files: dict[str, Path] = {}  # by request, folders to be fetched from

    def keeper(self, camera: CameraSettings) -> PacketRing | None:
        """What is to keep a camera's packets; None where its file can be read again.

        Args:
            camera: which is read from now on.
        """
        with self._lock:
            self._cameras[camera.id] = camera
            self._released.pop(camera.id, None)
            if not camera.is_live:
                self._rings.pop(camera.id, None)
                return None
            if camera.id not in self._rings:
                reach_s = self._settings.before_s + _ASKED_LATE_S
                self._rings[camera.id] = PacketRing(reach_s, round(self._settings.ring_mb * 1e6), now=self._now)
            return self._rings[camera.id]

    def release(self, camera_id: str) -> None:
        """Note that nobody reads a camera any more; what is kept of it serves for its last event."""
        with self._lock:
            self._released[camera_id] = self._now()

    def want(self, desired: DesiredEvidence, *, here: bool) -> None:
        """Provide this from now on, and nothing else.

        Args:
            desired: all of it.
            here: whether the run's output folder can be written from this node.
        """
        with self._lock:
            self._desired, self._is_elsewhere = desired, not here
        self._wake.set()

    def report(self) -> tuple[EvidenceReport, Sequence[Trouble]]:
        """How it stands, and what is wrong."""
        with self._lock:
            return self._report, () if self._trouble is None else (self._trouble,)

    def part(self, name: str, file: str, offset: int) -> bytes:
        """Some of a file that lies here to be fetched; nothing at its end.

        Args:
            name: of the request.
            file: its name.
            offset: byte from which on.

        Raises:
            BadInputError: there is no such file here.
        """
        folder = self._files.get(name)
        if folder is None or file not in FILES:
            raise BadInputError(f"expected a file of an event that was recorded here, got {file!r} of {name!r}")
        with (folder / file).open("rb") as opened:
            return os.pread(opened.fileno(), PART_BYTES, offset)

    def write(self) -> None:
        """Record for ever; to be called in a thread of its own."""
        with contextlib.suppress(OSError):
            forget_abandoned(self._elsewhere.parent, "*-evidence")
        while True:
            self._wake.wait(_STEP_S)
            self._wake.clear()
            self.step()

    def step(self) -> None:
        """Do what can be done now."""
        with self._lock:
            desired, output = self._desired, self._elsewhere if self._is_elsewhere else self._output
            self._let_go(desired.requests)
        touch_folder(self._elsewhere)  # or another run would take it for left
        wanted = {request.name: request for request in desired.requests}
        for name in [name for name in self._recordings if name not in wanted]:
            self._recordings.pop(name).abandon()
            if (fetched := self._files.pop(name, None)) is not None:
                shutil.rmtree(fetched, ignore_errors=True)
        answers: list[EvidenceAnswer] = []
        for name, request in wanted.items():
            answer = self._record(name, request, output)
            if answer is not None:
                answers.append(answer)
        troubles = [recording.trouble for recording in self._recordings.values() if recording.trouble]
        with self._lock:
            self._report = EvidenceReport(desired.number, tuple(answers))
            if troubles:
                self._trouble = Trouble("evidence is not written", troubles[-1])
            elif self._recordings:
                self._trouble = None

    def _record(self, name: str, request: EvidenceRequest, output: Path) -> EvidenceAnswer | None:
        recording = self._recordings.get(name)
        try:
            if recording is None:
                recording = EventRecording(request, self._footage(request), output, self._settings)
                self._recordings[name] = recording
            recording.follow(request)
            recording.step()
            answer = recording.answer
            return answer if answer is None or output is self._output else self._to_be_fetched(request, answer)
        except Exception as error:  # whatever a camera may have sent: one event without pictures is no reason to die
            why = f"it cannot be made: {redact(f'{type(error).__name__}: {error}')}"
            return EvidenceAnswer(name, request.is_final, why=why)

    def _to_be_fetched(self, request: EvidenceRequest, answer: EvidenceAnswer) -> EvidenceAnswer:
        """Say which files there are to be fetched."""
        folder = self._files[request.name] = place_of(request).within(self._elsewhere)
        try:
            files = {path.name: path.stat().st_size for path in folder.iterdir() if path.name in FILES}
        except FileNotFoundError:
            return answer
        return EvidenceAnswer(answer.name, answer.is_final, answer.picture, answer.clip, answer.why, files)

    def _footage(self, request: EvidenceRequest) -> Footage | None:
        camera_id = request.event.camera_id
        with self._lock:
            camera, ring = self._cameras.get(camera_id), self._rings.get(camera_id)
        if ring is not None:
            return RingFootage(ring)
        if camera is None or camera.is_live:
            return None
        address = camera.url.get_secret_value()
        return FileFootage(file_path(address), f"{camera.id} ({redact(address)})", camera.image_fps)

    def _let_go(self, requests: Sequence[EvidenceRequest]) -> None:
        """Forget cameras that were removed, once nothing is wanted of them; under the lock."""
        busy = {request.event.camera_id for request in requests}
        for camera_id, since in list(self._released.items()):
            if self._now() - since > _KEPT_AFTER_S and camera_id not in busy:
                del self._released[camera_id]
                self._cameras.pop(camera_id, None)
                self._rings.pop(camera_id, None)
