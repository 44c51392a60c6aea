"""Bounded buffers between a camera's decoder and whoever takes its frames, one per camera, drained fairly."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from pipeline.runtime.batching import BatchPolicy
from pipeline.types import Frame

Overflow = Literal["block", "drop_oldest"]


class _CameraBuffer:
    """Frames of one camera and what became of those that gave way."""

    __slots__ = ("capacity", "frames", "overflow", "overloaded")

    def __init__(self, capacity: int, overflow: Overflow) -> None:
        self.capacity = capacity
        self.overflow: Overflow = overflow
        self.frames: deque[tuple[Frame, float]] = deque()
        self.overloaded = 0


class FrameBuffers:
    """Thread-safe buffers of several cameras.

    A full buffer either blocks its producer (``block``: files, where nothing may be lost) or discards its oldest frame
    and counts it (``drop_oldest``: live cameras, where the newest frame is worth most). ``take`` goes round robin over
    the cameras, continuing where the last call stopped, so that no camera starves.

    Args:
        now: monotonic clock in seconds, by which the age of frames is told.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._changed = threading.Condition()
        self._buffers: dict[str, _CameraBuffer] = {}
        self._turn: deque[str] = deque()
        self._closed = False

    def add_camera(self, camera_id: str, capacity: int, overflow: Overflow) -> None:
        """Open a camera's buffer; adding one that exists changes its capacity and policy and keeps its frames."""
        with self._changed:
            existing = self._buffers.get(camera_id)
            if existing is None:
                self._buffers[camera_id] = _CameraBuffer(capacity, overflow)
                self._turn.append(camera_id)
            else:
                existing.capacity, existing.overflow = capacity, overflow
            self._changed.notify_all()

    def put(self, frame: Frame) -> bool:
        """Add a camera's newest frame; blocks while the buffer is full and its policy is ``block``.

        Returns:
            False when the buffers were closed and the frame was not taken in.
        """
        buffer = self._buffers[frame.header.camera_id]
        with self._changed:
            if buffer.overflow == "block":
                self._changed.wait_for(lambda: self._closed or len(buffer.frames) < buffer.capacity)
            if self._closed:
                return False
            while len(buffer.frames) >= buffer.capacity:
                buffer.frames.popleft()
                buffer.overloaded += 1
            buffer.frames.append((frame, self._now()))
            self._changed.notify_all()
            return True

    def take(self, policy: BatchPolicy, timeout_s: float) -> list[Frame]:
        """Take the oldest frames of every camera in turn, as one batch.

        Waits at most ``timeout_s`` for a first frame, then for as long as ``policy`` wants the batch to grow.

        Returns:
            At most ``policy.max_frames`` frames; the frames of one camera keep their order. Empty after a time-out.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._waiting() > 0, timeout_s):
                return []
            while not self._closed:
                patience_s = policy.patience_s(self._waiting(), self._oldest_age_s())
                if patience_s <= 0.0:
                    break
                self._changed.wait(patience_s)
            taken = self._pop_fairly(policy.max_frames)
            if taken:
                self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Wake everyone; nothing can be added any more, what is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def waiting(self, camera_id: str | None = None) -> int:
        """Frames that wait, of one camera or of all."""
        with self._changed:
            return self._waiting() if camera_id is None else len(self._buffers[camera_id].frames)

    def overloaded(self, camera_id: str) -> int:
        """Frames of a camera that gave way to newer ones so far."""
        with self._changed:
            return self._buffers[camera_id].overloaded

    def _waiting(self) -> int:
        return sum(len(buffer.frames) for buffer in self._buffers.values())

    def _oldest_age_s(self) -> float:
        arrivals = [buffer.frames[0][1] for buffer in self._buffers.values() if buffer.frames]
        return self._now() - min(arrivals) if arrivals else 0.0

    def _pop_fairly(self, max_frames: int) -> list[Frame]:
        taken: list[Frame] = []
        empty_in_a_row = 0
        while self._turn and len(taken) < max_frames and empty_in_a_row < len(self._turn):
            buffer = self._buffers[self._turn[0]]
            self._turn.rotate(-1)
            if buffer.frames:
                taken.append(buffer.frames.popleft()[0])
                empty_in_a_row = 0
            else:
                empty_in_a_row += 1
        return taken
