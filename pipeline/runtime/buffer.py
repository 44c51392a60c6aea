"""Bounded buffers between a camera's decoder and whoever takes its frames, one per camera, drained fairly."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.tally import SECONDS, Histogram, HistogramCounts
from pipeline.types import DropReason, Frame

Overflow = Literal["block", "drop_oldest"]


class _CameraBuffer:
    """Frames of one camera."""

    __slots__ = ("camera_id", "capacity", "frames", "max_age_s", "overflow")

    def __init__(self, camera_id: str, capacity: int, overflow: Overflow, max_age_s: float | None) -> None:
        self.camera_id = camera_id
        self.capacity = capacity
        self.overflow: Overflow = overflow
        self.max_age_s = max_age_s
        self.frames: deque[tuple[Frame, float]] = deque()


class FrameBuffers:
    """Thread-safe buffers of several cameras.

    A full buffer either blocks its producer (``block``: files, where nothing may be lost) or discards its oldest frame
    (``drop_oldest``: live cameras, where the newest frame is worth most). ``take`` goes round robin over the cameras
    that have frames, continuing where the last call stopped, so that no camera starves; before that it discards frames
    that have become too old. What a call costs grows with the frames that wait, not with the cameras.

    Args:
        now: monotonic clock in seconds, by which batches are closed.
        unix_now: Unix time in seconds, by which the age of a frame since its capture is known.
        on_drop: called with every frame that is discarded, and why; called under the buffers' lock.
        on_take: called with the frames taken, which it may replace; called under the buffers' lock.
        spare: frames of all cameras together below which no buffer counts as full for ``drop_oldest``: who takes that
            many at a time would have had room for what was dropped.
    """

    def __init__(
        self,
        now: Callable[[], float],
        unix_now: Callable[[], float] = time.time,
        *,
        on_drop: Callable[[Frame, DropReason], None] = lambda frame, reason: None,
        on_take: Callable[[Frame], Frame] = lambda frame: frame,
        spare: int = 0,
    ) -> None:
        self._now = now
        self._unix_now = unix_now
        self._on_drop = on_drop
        self._on_take = on_take
        self._spare = spare
        self._changed = threading.Condition()
        self._buffers: dict[str, _CameraBuffer] = {}
        self._round_robin: deque[_CameraBuffer] = deque()  # those that have frames, each once
        self._waiting = 0
        self._enough = 1  # frames for which whoever takes is woken: each time costs as much as a frame
        self._closed = False
        self._waited = Histogram(SECONDS)

    def add_camera(self, camera_id: str, capacity: int, overflow: Overflow, max_age_s: float | None = None) -> None:
        """Open a camera's buffer; adding one that exists changes its settings and keeps its frames.

        Args:
            camera_id: the camera.
            capacity: frames that wait at most.
            overflow: what happens when one more comes.
            max_age_s: since its capture, after which a frame is discarded as ``stale``; None keeps it for ever.
        """
        with self._changed:
            existing = self._buffers.get(camera_id)
            if existing is None:
                self._buffers[camera_id] = _CameraBuffer(camera_id, capacity, overflow, max_age_s)
            else:
                existing.capacity, existing.overflow, existing.max_age_s = capacity, overflow, max_age_s
            self._changed.notify_all()

    def remove_camera(self, camera_id: str) -> None:
        """Close a camera's buffer; frames that wait are discarded as ``shutdown``, and none is taken in any more."""
        with self._changed:
            buffer = self._buffers.pop(camera_id, None)
            if buffer is None:
                return
            self._discard_all(buffer)
            self._changed.notify_all()

    def put(self, frame: Frame) -> bool:
        """Add a camera's newest frame; blocks while the buffer is full and its policy is ``block``.

        Returns:
            False when the buffer was closed and the frame was not taken in.
        """
        return not self.put_all([frame])

    def put_all(self, frames: Sequence[Frame]) -> list[Frame]:
        """Add frames that came together, each as ``put`` does, in one step: whoever takes gets them as one batch.

        Returns:
            Frames that were not taken in because their buffer was closed.
        """
        rejected: list[Frame] = []
        with self._changed:
            for frame in frames:
                buffer = self._buffers.get(frame.header.camera_id)
                if buffer is None or not self._has_room(frame, buffer):
                    rejected.append(frame)
                    continue
                while len(buffer.frames) >= buffer.capacity and self._waiting >= self._spare:
                    self._on_drop(self._pop(buffer)[0], "overload")
                self._push(buffer, frame)
            if self._waiting >= self._enough:
                self._changed.notify_all()
        return rejected

    def take(self, policy: BatchPolicy, timeout_s: float, skip: Collection[str] = ()) -> list[Frame]:
        """Take the oldest frames of every camera in turn, as one batch.

        Args:
            policy: for how long the batch may grow once it has a first frame.
            timeout_s: longest wait for a first frame.
            skip: ids of cameras whose frames are to stay where they are.

        Returns:
            At most ``policy.max_frames`` frames; the frames of one camera keep their order. Empty after a time-out.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._waiting_but(skip) > 0, timeout_s):
                return []
            while not self._closed:
                patience_s = policy.patience_s(self._waiting_but(skip), self._oldest_age_s(skip))
                if patience_s <= 0.0:
                    break
                self._enough = policy.max_frames
                self._changed.wait(patience_s)
            self._enough = 1
            self._discard_stale()
            taken = self._pop_fairly(policy.max_frames, skip)
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Wake everyone; nothing can be added any more, what is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Discard what waits as ``shutdown``: there is no time left for it."""
        with self._changed:
            for buffer in self._buffers.values():
                self._discard_all(buffer)
            self._changed.notify_all()

    def waiting(self, camera_id: str | None = None) -> int:
        """Frames that wait, of one camera or of all."""
        with self._changed:
            if camera_id is None:
                return self._waiting
            buffer = self._buffers.get(camera_id)
            return len(buffer.frames) if buffer else 0

    def backlog(self) -> tuple[int, float]:
        """Frames that wait, and since when the oldest of them does, in seconds (0 where none waits)."""
        with self._changed:
            return self._waiting, self._oldest_age_s()

    def waited(self) -> HistogramCounts:
        """How long frames that were taken had waited, in seconds."""
        return self._waited.counts()

    def _has_room(self, frame: Frame, buffer: _CameraBuffer) -> bool:
        """Wait for room where nothing may be dropped; False when the buffer was closed."""
        if buffer.overflow == "block" and len(buffer.frames) >= buffer.capacity:
            self._changed.notify_all()  # of what was put so far, or nobody might ever make room
            self._changed.wait_for(lambda: self._is_gone(frame, buffer) or len(buffer.frames) < buffer.capacity)
        return not self._is_gone(frame, buffer)

    def _is_gone(self, frame: Frame, buffer: _CameraBuffer) -> bool:
        return self._closed or self._buffers.get(frame.header.camera_id) is not buffer

    def _push(self, buffer: _CameraBuffer, frame: Frame) -> None:
        if not buffer.frames:
            self._round_robin.append(buffer)
        buffer.frames.append((frame, self._now()))
        self._waiting += 1

    def _pop(self, buffer: _CameraBuffer) -> tuple[Frame, float]:
        """A camera's oldest frame, and when it came."""
        self._waiting -= 1
        oldest = buffer.frames.popleft()
        if not buffer.frames:
            self._round_robin.remove(buffer)
        return oldest

    def _discard_all(self, buffer: _CameraBuffer) -> None:
        while buffer.frames:
            self._on_drop(self._pop(buffer)[0], "shutdown")

    def _discard_stale(self) -> None:
        unix_now = self._unix_now()
        for buffer in list(self._round_robin):
            if buffer.max_age_s is None:
                continue
            while buffer.frames and unix_now - buffer.frames[0][0].header.captured_at_s > buffer.max_age_s:
                self._on_drop(self._pop(buffer)[0], "stale")

    def _waiting_but(self, skip: Collection[str]) -> int:
        return self._waiting - sum(len(self._buffers[name].frames) for name in skip if name in self._buffers)

    def _oldest_age_s(self, skip: Collection[str] = ()) -> float:
        arrivals = [buffer.frames[0][1] for buffer in self._round_robin if buffer.camera_id not in skip]
        return self._now() - min(arrivals) if arrivals else 0.0

    def _pop_fairly(self, max_frames: int, skip: Collection[str]) -> list[Frame]:
        taken: list[Frame] = []
        passed_over, now = 0, self._now()
        while len(taken) < max_frames and passed_over < len(self._round_robin):
            buffer = self._round_robin[0]
            if buffer.camera_id in skip:
                passed_over += 1
                self._round_robin.rotate(-1)
                continue
            frame, arrived_at = self._pop(buffer)
            self._waited.add(now - arrived_at)
            taken.append(self._on_take(frame))
            if buffer.frames:
                self._round_robin.rotate(-1)
            passed_over = 0
        return taken
