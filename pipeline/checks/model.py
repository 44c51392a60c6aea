"""Whether the model is whole and is the one that the config and its cameras want. Free of torch."""

from __future__ import annotations

from pathlib import Path

from pipeline.checks.finding import Finding
from pipeline.config import Config
from pipeline.errors import CflowError
from pipeline.methods import METHODS
from pipeline.models.card import WEIGHTS_FILE, ModelCard, unknown_scenes
from pipeline.models.fetching import FoundModel, find_model
from pipeline.models.memory import check_memory
from pipeline.models.normal_store import NormalStore


def check_model(config: Config, place: str | Path | None) -> list[Finding]:
    """Read the card, compare the weights' digest and the config's settings with it, and its scenes with the cameras.

    Args:
        config: the settings.
        place: folder or address of the model; None where none is named, without which no run starts.
    """
    if place is None:
        return [Finding("model", "failed", "expected a trained model (model_folder, or --model), got nothing")]
    try:
        found = find_model(place, config)
        weights = found.folder / WEIGHTS_FILE
        check_memory(weights.stat().st_size, str(weights), "use another machine, or end what else runs on it")
    except (CflowError, OSError) as error:
        return [Finding("model", "failed", str(error))]
    return [_described(found), *_footage(found), *_scenes(config, found.card), *_zones(config, found.card)]


def _described(found: FoundModel) -> Finding:
    card = found.card
    height, width = card.model.image_size_px
    detail = (
        f"{found.source.shown}: {card.model.method}, {card.model.encoder.name}, {width} x {height}, "
        f"{card.short_fingerprint}"
    )
    if not card.provenance.completed:
        return Finding("model", "warning", f"{detail}; its training was interrupted")
    return Finding("model", "ok", detail)


def _footage(found: FoundModel) -> list[Finding]:
    """Normal footage beside the model, where it cannot be used: a run goes on without it."""
    try:
        NormalStore.read(found.folder, found.card.fingerprint)
    except CflowError as error:
        return [Finding("normal footage", "warning", str(error))]
    return []


def _scenes(config: Config, card: ModelCard) -> list[Finding]:
    unknown = unknown_scenes(config.cameras, card.scenes)
    if not unknown:
        return [Finding("scenes", "ok", f"every camera's is one of the model's {len(card.scenes)}")]
    return [Finding("scenes", "warning", line) for line in unknown]


def _zones(config: Config, card: ModelCard) -> list[Finding]:
    method = METHODS[card.model.method]
    if not method.scores_frames or not any(camera.zones for camera in config.cameras):
        return []
    said = f"{method.name} scores whole frames: zones leave out what moves elsewhere, and nothing else"
    return [Finding("zones", "warning", said)]
