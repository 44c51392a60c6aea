"""The layout of the folder in which a run keeps its state: every name in it is known here alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what; nothing needs to be there yet.

    Attributes:
        path: of the folder: ``output.folder`` of a stream, ``_run`` inside the scores of a replay.
    """

    path: Path

    @classmethod
    def of_replay(cls, scores: Path) -> RunFolder:
        """The run folder of a replay, which lies among its scores.

        Args:
            scores: root of the Parquet data set that the replay writes.
        """
        return cls(scores / "_run")

    @property
    def lock_file(self) -> Path:
        """Locked while a run uses the folder (``sinks/run_lock``)."""
        return self.path / "run.lock"

    @property
    def record_file(self) -> Path:
        """Where the run's Redis can be read, JSON (``sinks/locate``)."""
        return self.path / "run.json"

    @property
    def control_file(self) -> Path:
        """At which socket the run takes requests, JSON, while it lasts (``actors/control``)."""
        return self.path / "control.json"

    @property
    def store_file(self) -> Path:
        """SQLite database of cameras' states and undelivered alerts (``sinks/run_store``)."""
        return self.path / "run.sqlite"

    @property
    def redis(self) -> Path:
        """Folder of an embedded Redis server's data (``sinks/embedded_redis``)."""
        return self.path / "redis"

    @property
    def models(self) -> Path:
        """Copies of the run's models, handed out to nodes that lack them (``actors/model_server``)."""
        return self.path / "models"

    @property
    def quarantine(self) -> Path:
        """Folder of frames that killed detectors."""
        return self.path / "quarantine"

    @property
    def stream_scores(self) -> Path:
        """Root of the Parquet data set that a stream writes; a replay's is the folder that its run folder lies in."""
        return self.path / "scores"
