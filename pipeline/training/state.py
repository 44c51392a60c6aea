"""What an interrupted training leaves beside its model, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from pipeline.config import TrainingSettings
from pipeline.datasets.base import Dataset
from pipeline.files import naming, replace_whole
from pipeline.methods import method_of
from pipeline.model_settings import ModelSettings
from pipeline.models.checkpoint import save_tensors
from pipeline.models.encoder import Encoder
from pipeline.training.holdout import Part

_LOGGER = logging.getLogger(__name__)

STATE_FILE = "state.safetensors"
"""In a training's folder; beside it those of the models that are fitted for its measuring."""

_FEATURES = "features"
_KEY_FILE = "key.txt"
_LAYOUT = 4  # of the cached files; those of an older release are made anew


@dataclass(frozen=True)
class SavedState:
    """A training after some steps.

    Attributes:
        tensors: weights and the optimiser's moments.
        step: optimiser steps done.
        losses: running mean of each level's loss, by its name.
    """

    tensors: dict[str, Tensor]
    step: int
    losses: dict[str, float]


class States(Protocol):
    """Where an unfinished training keeps its state."""

    def load(self, key: str) -> SavedState | None:
        """The saved state; None where there is none, or one of other settings or footage, or a damaged one."""

    def save(self, key: str, state: SavedState) -> None:
        """Keep a state instead of an older one.

        Raises:
            OSError: it cannot be written.
        """


class StateFolder:
    """States in a folder of this machine.

    Args:
        folder: it exists.
        name: of the model, where several are fitted; empty for the one that is kept.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self._path = folder / (f"{name}-{STATE_FILE}" if name else STATE_FILE)

    def load(self, key: str) -> SavedState | None:
        """As ``States.load``."""
        return load_state(self._path, key)

    def save(self, key: str, state: SavedState) -> None:
        """As ``States.save``; it appears whole."""
        save_state(self._path, key, state)


def training_folder(out: Path) -> Path:
    """Where features and state of a training lie until it is complete: beside the model."""
    return out.with_name(f"{out.name}.training")


def features_key(dataset: Dataset, encoder: Encoder, model: ModelSettings, training: TrainingSettings) -> str:
    """Digest of all that decides the cached features: weights, input size, footage, pairs, variants, what is kept."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    facts = {
        "layout": _LAYOUT,
        "encoder": encoder.settings.model_dump(mode="json", exclude={"weights", "seed"}),
        "size": model.image_size_px,
        "gap_s": model.motion.gap_s,
        "frame_step": training.frame_step,
        "clips": [clip.stamp() for clip in dataset.train],
    }
    if training.augmentation.variants:
        facts["augmentation"] = training.augmentation.model_dump(mode="json")
    method = method_of(model.method)
    if not method.shares_features:
        section = getattr(model, method.section)
        facts["kept"] = [method.name, *(getattr(section, name) for name in method.feature_settings)]
    digest.update(_canonical(facts))
    return digest.hexdigest()


def fit_key(
    features: str, model: ModelSettings, training: TrainingSettings, device: str, learned: Sequence[Part]
) -> str:
    """Digest of everything that decides the fitted weights.

    What is learned is among it: whether footage is cross-fitted depends on how many workers there are, and who goes on
    from a model of all of it would measure frames as unseen that it has learned.
    """
    facts = {
        "features": features,
        "method": getattr(model, method_of(model.method).section).model_dump(mode="json"),
        "training": training.model_dump(mode="json", exclude={"checkpoint_every_s"}),
        "device": device,
        "learned": [(part.clip, part.frames.start, part.frames.stop) for part in learned],
    }
    return hashlib.sha256(_canonical(facts)).hexdigest()


def prepare_features(folder: Path, key: str) -> Path:
    """The folder of cached features, emptied if they are of other footage or another encoder."""
    features = folder / _FEATURES
    key_file = features / _KEY_FILE
    if features.exists() and (not key_file.exists() or key_file.read_text(encoding="utf-8") != key):
        _LOGGER.info("%s: features of other footage or another encoder are made anew", features)
        shutil.rmtree(features)
    features.mkdir(parents=True, exist_ok=True)
    with naming(key_file):
        key_file.write_text(key, encoding="utf-8")
    return features


def save_state(path: Path, key: str, state: SavedState) -> None:
    """Write the state; it appears whole, replacing an older one."""
    metadata = {"key": key, "step": str(state.step), "losses": json.dumps(state.losses)}
    with replace_whole(path) as staged:
        save_tensors(state.tensors, staged, metadata=metadata)


def load_state(path: Path, key: str) -> SavedState | None:
    """The saved state; None where there is none, or one of other settings or footage, or a damaged one."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
        if metadata.get("key") != key:
            _LOGGER.warning("%s: belongs to other settings or footage; training starts anew", path)
            return None
        losses: dict[str, Any] = json.loads(metadata["losses"])
        return SavedState(load_file(path), int(metadata["step"]), {k: float(v) for k, v in losses.items()})
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        _LOGGER.warning("%s: cannot be read (%s); training starts anew", path, error)
        return None


def _canonical(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True).encode()
