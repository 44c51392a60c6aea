"""Stands where a camera process stands: readers, their counters, one set of buffers, and somebody who takes frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pipeline.camera_settings import CameraSettings
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import CounterName, FrameCounters
from pipeline.runtime.status import ReaderStatus
from pipeline.types import DropReason, Frame
from pipeline.video.live_reader import ImageMonitor
from pipeline.video.reader import CameraReader, make_reader

SIZE_PX = (32, 48)
GAP_S = 0.1


class Station:
    """Readers wired as a camera process wires them; every thread's exception is kept and raised at the end.

    Args:
        folder: for counter files.
        takes: whether frames are taken as they come; otherwise ``take`` does.
    """

    def __init__(self, folder: Path, *, takes: bool = True) -> None:
        self._folder = folder
        self.frames: list[Frame] = []
        self.errors: list[BaseException] = []
        self.readers: dict[str, CameraReader] = {}
        self.counters_folder: dict[str, FrameCounters] = {}
        self.threads: list[threading.Thread] = []
        self.buffers = FrameBuffers(time.monotonic, on_drop=self._count_dropped, on_take=self._number)
        self._numbered = 0
        self._over = threading.Event()
        self._run(self._check)
        if takes:
            self._run(self._take)

    def __enter__(self) -> Station:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if error is None:
            assert not self.errors, self.errors
            for camera_id in self.readers:
                self.assert_books_are_exact(camera_id)

    def add(
        self,
        camera_id: str,
        url: str | Path,
        *,
        watch: ImageMonitor | None = None,
        start: bool = True,
        paced: bool = False,
        clock: dict[str, Callable[..., Any]] | None = None,
        **settings: object,
    ) -> CameraReader:
        """A reader with its counter file; limits are short unless said otherwise. ``clock`` replaces its own."""
        limits = {"open_timeout_s": 1.0, "read_timeout_s": 0.5, "reconnect_max_s": 0.4, **settings}
        camera = CameraSettings.model_validate({"id": camera_id, "url": str(url), **limits})
        counters = self.counters_folder[camera_id] = FrameCounters(self._folder / f"{camera_id}.ledger")
        reader = make_reader(
            camera,
            SIZE_PX,
            self.buffers,
            counters,
            gap_s=GAP_S,
            make_watch=lambda: watch,
            start_thread=self._run,
            **(clock or {}),
        )
        reader.paced = paced
        self.readers[camera_id] = reader
        if start:
            reader.start()
        return reader

    def take(self, most: int = 100) -> list[Frame]:
        """Take what waits."""
        return self.buffers.take(BatchPolicy(most, 0.0), 0.0)

    def status(self, camera_id: str = "gate") -> ReaderStatus:
        """A reader's status."""
        return self.readers[camera_id].status()

    def frames_of(self, camera_id: str = "gate", session: int | None = None) -> list[Frame]:
        """Frames that were taken so far."""
        return [
            frame
            for frame in list(self.frames)
            if frame.header.camera_id == camera_id and session in {None, frame.header.session}
        ]

    def has_taken_all(self) -> bool:
        """Whether nothing waits, and whatever was dispatched has arrived in ``frames``."""
        return not self.buffers.waiting() and len(self.frames) == self._numbered

    def remove(self, camera_id: str) -> None:
        """Stop a reader and close its counters, as when a camera is removed while running."""
        self.readers[camera_id].stop()
        self.buffers.remove_camera(camera_id)
        until(lambda: self.status(camera_id).ended, f"{camera_id} ends")

    def close(self) -> None:
        """End all readers and threads of this station; frames that wait are counted as ``shutdown``."""
        for camera_id in self.readers:
            self.remove(camera_id)
        self._over.set()

    def assert_books_are_exact(self, camera_id: str = "gate") -> None:
        """Every frame that came was dispatched, dropped or waits."""
        status = self.status(camera_id)
        waiting = self.buffers.waiting(camera_id)
        assert status.decoded == status.dispatched + sum(status.dropped.values()) + waiting, status

    def _count_dropped(self, frame: Frame, reason: DropReason) -> None:
        self.counters_folder[frame.header.camera_id].add(cast("CounterName", reason))

    def _number(self, frame: Frame) -> Frame:
        counters = self.counters_folder[frame.header.camera_id]
        serial = counters["dispatched"]
        counters.add("dispatched")
        self._numbered += 1
        return replace(frame, header=replace(frame.header, serial=serial))

    def _run(self, task: Callable[[], None]) -> None:
        def run() -> None:
            try:
                task()
            except BaseException as error:
                self.errors.append(error)
                raise

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _check(self) -> None:
        while not self._over.wait(0.02):
            for reader in list(self.readers.values()):
                reader.check()

    def _take(self) -> None:
        while not self._over.is_set():
            self.frames += self.buffers.take(BatchPolicy(8, 0.0), 0.05)


def start_daemon(task: Callable[[], None]) -> None:
    """Run a task in a thread of its own."""
    threading.Thread(target=task, daemon=True).start()


def until(condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Wait until something holds; fails after ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"expected within {within_s:g} s that {what}"
        time.sleep(0.01)


def ended(station: Station, camera_id: str = "gate") -> ReaderStatus:
    """How a camera stands once its reader has ended and all frames were taken."""
    until(lambda: station.status(camera_id).ended, "the reader ends")
    until(station.has_taken_all, "all frames are taken")
    return station.status(camera_id)
