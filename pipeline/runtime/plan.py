"""Everything a run needs to know, as plain values: what every actor is built from, and rebuilt from after a crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pipeline.camera_settings import CameraSettings
from pipeline.config import MetricsSettings, RuntimeSettings
from pipeline.evidence_settings import EvidenceSettings
from pipeline.models.card import ModelCard
from pipeline.models.source import ModelSource
from pipeline.private_folder import private_folder
from pipeline.runtime.messages import CameraRole
from pipeline.runtime.slices import scorer_count
from pipeline.sinks.base import SinkSettings
from pipeline.types import FrameBatch, Prediction, SceneReference

Predict = Callable[[FrameBatch, Sequence[CameraRole]], list[Prediction]]
"""Frames and, for each, its camera's role; gives their predictions with maps, in order."""


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """Where scores and alerts go.

    Attributes:
        redis_url: the server's address; a secret, it may hold a password.
        scores_maxlen: entries kept per camera, approximately.
        alerts_maxlen: alerts kept, approximately.
        scores_folder: root of the Parquet data set.
        state_folder: where scorers keep what outlives their processes (``RunFolder.store_file``).
        maps: whether anomaly maps are kept there.
        rotate_s: longest time before scored rows stand in a finished file.
        others: what the config names beside Redis and Parquet.
    """

    redis_url: SecretStr
    scores_maxlen: int
    alerts_maxlen: int
    scores_folder: Path
    state_folder: Path
    maps: bool
    rotate_s: float
    others: tuple[SinkSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidencePlan:
    """Which pictures and clips of events are kept, and where.

    Attributes:
        settings: which, and for how long.
        output: the run's output folder.
        is_shared: whether all nodes have it.
    """

    settings: EvidenceSettings
    output: Path
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run of the live path.

    Attributes:
        name: distinguishes the actors of runs that share a cluster.
        cameras: what to read at first.
        scene_references: what the model's scenes looked like in training, by scene.
        card: of its model at first.
        model: where detectors get that.
        model_copies: folder of what is handed out to nodes that have no model.
        model_server: name of the actor that does; None where all nodes have the folders of this one.
        size_px: (height, width) of the model's input.
        gap_s: how much earlier than a frame the other half of its pair is to be.
        runtime: processes and batches.
        sinks: where scores and alerts go.
        quarantine: folder for frames that killed detectors.
        max_processes: upper limit of camera processes; None leaves it to ``runtime.cameras_per_process``.
        metrics: where Prometheus and probes may ask.
        evidence: of events; None where none is kept.
        load_stand_in: makes what predicts in the model's place, for measurements of everything around it; None, as
            always otherwise, loads the model.
    """

    name: str
    cameras: tuple[CameraSettings, ...]
    scene_references: dict[str, SceneReference]
    card: ModelCard
    model: ModelSource
    model_copies: Path
    size_px: tuple[int, int]
    gap_s: float
    runtime: RuntimeSettings
    sinks: SinkPlan
    quarantine: Path
    max_processes: int | None = None
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    evidence: EvidencePlan | None = None
    load_stand_in: Callable[[], Predict] | None = None
    model_server: str | None = None

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the run's scorers, by number."""
        return tuple(f"{self.name}-scorer-{n}" for n in range(scorer_count(len(self.cameras), self.runtime.scorers)))

    @property
    def counters_folder(self) -> Path:
        """Folder of the cameras' counter files on this node; each node has one of this name for its own cameras."""
        return private_folder() / self.name
