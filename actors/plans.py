"""From settings and a model to a run's plan."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.models.card import ModelCard
from pipeline.models.source import ModelSource
from pipeline.run_folder import RunFolder
from pipeline.runtime.plan import EvidencePlan, RunPlan, SinkPlan
from pipeline.sinks.base import SinkSettings
from pipeline.sinks.parquet import ParquetSinkSettings
from pipeline.sinks.redis_stream import RedisSinkSettings


def stream_plan(config: Config, card: ModelCard, model: ModelSource | Path, redis_url: str) -> RunPlan:
    """The plan of ``stream``: the config's cameras, into its output folder.

    Args:
        config: the settings.
        card: of the model.
        model: where it is, or its folder.
        redis_url: where scores and alerts go.
    """
    folder = RunFolder(config.output.folder)
    plan = _plan(config, config.cameras, card, model, redis_url, folder, folder.stream_scores)
    sinks = replace(plan.sinks, maps=config.output.maps, others=config.sinks)
    evidence = EvidencePlan(config.output.evidence, plan.sinks.state_folder, config.output.shared)
    kept = evidence if config.output.evidence.is_wanted else None
    return replace(plan, sinks=sinks, metrics=config.metrics, evidence=kept)


def replay_plan(
    config: Config,
    cameras: Sequence[CameraSettings],
    card: ModelCard,
    model: ModelSource | Path,
    redis_url: str,
    scores_folder: Path,
) -> RunPlan:
    """The plan of ``replay``: clips in the place of cameras, one process per core, maps kept.

    Args:
        config: the settings.
        cameras: the clips.
        card: of the model.
        model: where it is, or its folder.
        redis_url: where scores and alerts go.
        scores_folder: root of the Parquet data set; the run's state goes to a folder in it.
    """
    folder = RunFolder.of_replay(scores_folder)
    plan = _plan(config, cameras, card, model, redis_url, folder, scores_folder)
    return replace(plan, max_processes=os.cpu_count())


def sink_settings(plan: SinkPlan) -> tuple[SinkSettings, ...]:
    """All sinks of a run, those that keep every row first."""
    return (
        ParquetSinkSettings(folder=plan.scores_folder, maps=plan.maps, rotate_s=plan.rotate_s),
        RedisSinkSettings(url=plan.redis_url, scores_maxlen=plan.scores_maxlen, alerts_maxlen=plan.alerts_maxlen),
        *plan.others,
    )


def _plan(
    config: Config,
    cameras: Sequence[CameraSettings],
    card: ModelCard,
    model: ModelSource | Path,
    redis_url: str,
    folder: RunFolder,
    scores_folder: Path,
) -> RunPlan:
    folder = RunFolder(folder.path.resolve())
    sinks = SinkPlan(
        redis_url=SecretStr(redis_url),
        scores_maxlen=config.redis.scores_maxlen,
        alerts_maxlen=config.redis.alerts_maxlen,
        scores_folder=scores_folder.resolve(),
        state_folder=folder.path,
        maps=True,
        rotate_s=config.output.rotate_s,
    )
    return RunPlan(
        name=f"run-{uuid.uuid4().hex[:8]}",
        cameras=tuple(cameras),
        scene_references=dict(card.views),
        card=card,
        model=model if isinstance(model, ModelSource) else ModelSource.of(card, model),
        model_copies=folder.models,
        size_px=card.model.image_size_px,
        gap_s=card.model.motion.gap_s,
        runtime=config.runtime,
        sinks=sinks,
        quarantine=folder.quarantine,
    )
