"""The layout of the folder in which a run keeps its state: every name in it is known here alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_STORE_FILE = re.compile(r"run-([1-9][0-9]{0,5})\.sqlite")


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
    def supervision_file(self) -> Path:
        """What a service's supervisor must not forget, JSON, with cameras' passwords (``actors/supervision_file``)."""
        return self.path / "supervision.json"

    @property
    def verdicts_file(self) -> Path:
        """What people said of events, a JSON object a line (``pipeline/verdicts``)."""
        return self.path / "verdicts.jsonl"

    def store_file(self, scorer: int = 0) -> Path:
        """SQLite database of one scorer's cameras' states and undelivered alerts (``sinks/run_store``).

        Args:
            scorer: its number.
        """
        return self.path / (f"run-{scorer}.sqlite" if scorer else "run.sqlite")

    def left_store_files(self, scorers: int) -> list[Path]:
        """Such files of scorers that an earlier run had and a run with fewer of them has not.

        Args:
            scorers: how many the run has.
        """
        numbers = (_STORE_FILE.fullmatch(path.name) for path in self.path.glob("run-*.sqlite"))
        return [self.store_file(n) for n in sorted(int(found[1]) for found in numbers if found) if n >= scorers]

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
