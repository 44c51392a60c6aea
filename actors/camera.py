"""Actor that decodes several cameras, each in a thread of its own, and hands out their newest frames."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import ray

from actors.peers import start_vital_thread
from pipeline.config import CameraSettings
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.types import FrameBatch
from pipeline.video.reader import CameraReader, ReaderStatus


class CameraActor:
    """Owns the reader threads of some cameras and the buffers between them and one detector.

    Args:
        cameras: the cameras it reads.
        size_px: (height, width) of the frames it hands out.
        files_at_once: files that are read at the same time; live cameras are read all at once, always.
    """

    def __init__(self, cameras: Sequence[CameraSettings], size_px: tuple[int, int], files_at_once: int) -> None:
        self._buffers = FrameBuffers(time.monotonic)
        # A restarted process cannot know how often its cameras reconnected before: Unix time is above any such count.
        first_session = int(time.time()) if _is_restarted() else 0
        self._readers = {camera.id: CameraReader(camera, size_px, self._buffers, first_session) for camera in cameras}
        self._start(files_at_once)

    def take(self, max_frames: int, timeout_s: float) -> FrameBatch | None:
        """Frames that wait, oldest first, as one array; None when none came within the time."""
        frames = self._buffers.take(BatchPolicy(max_frames, max_wait_s=0.0), timeout_s)
        if not frames:
            return None
        return FrameBatch(tuple(frame.header for frame in frames), np.stack([frame.image for frame in frames]))

    def status(self) -> dict[str, ReaderStatus]:
        """What each reader has done, by camera id."""
        return {camera_id: reader.status() for camera_id, reader in self._readers.items()}

    def stop(self) -> None:
        """End all readers; frames that wait can still be taken."""
        for reader in self._readers.values():
            reader.stop()
        self._buffers.close()

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _start(self, files_at_once: int) -> None:
        files = [reader for reader in self._readers.values() if not reader.status().live]
        for reader in self._readers.values():
            if reader not in files:
                start_vital_thread(reader.run)
        # Workers that share one queue of files: a pool's threads would not be daemons and could outlive the actor.
        queue = deque(files)
        for _ in range(min(files_at_once, len(files))):
            start_vital_thread(_run_in_turn, queue)


def _run_in_turn(queue: deque[CameraReader]) -> None:
    while queue:
        try:
            reader = queue.popleft()
        except IndexError:  # another worker was faster
            return
        reader.run()


def _is_restarted() -> bool:
    return ray.is_initialized() and bool(ray.get_runtime_context().was_current_actor_reconstructed)
