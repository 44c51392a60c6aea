"""Cards of models that say something else, though their digests fit: the format of ``model.json``, once more."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.models.card import CARD_FILE, WEIGHTS_FILE

_DECIDING = ("format", "model", "scenes", "levels", "normal_scores", "normal_fps")
_DECIDING_IF_MEASURED = ("read_out", "unpaired_scores")
_SECTIONS = {"cflow": "flow", "padim": "padim", "spade": "spade", "differnet": "differnet"}


def read_values(folder: Path) -> dict[str, Any]:
    """What a model's card says."""
    return json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))


def write_values(folder: Path, values: dict[str, Any]) -> None:
    """Write a card that says so, with the checksum of what it says."""
    said = {key: value for key, value in values.items() if key != "checksum"}
    said["checksum"] = _sha256(said)
    (folder / CARD_FILE).write_text(_text(said), encoding="utf-8")


def fingerprint_of(folder: Path, values: dict[str, Any]) -> str:
    """The fingerprint of a card that says so beside the folder's weights; of what is no card any one will do."""
    model = dict(values["model"]) if isinstance(values["model"], dict) else {}
    encoder = model.get("encoder")
    encoder = encoder if isinstance(encoder, dict) else {}
    model["encoder"] = {key: value for key, value in encoder.items() if key not in {"weights", "seed"}}
    for method, section in _SECTIONS.items():
        if method != model.get("method", "cflow"):
            model.pop(section, None)
    if isinstance(model.get("spade"), dict):
        model["spade"] = {key: value for key, value in model["spade"].items() if key != "gallery_gib"}
    weights = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    deciding = {key: values.get(key) for key in _DECIDING}
    deciding |= {key: values[key] for key in _DECIDING_IF_MEASURED if values.get(key)}
    return _sha256({**deciding, "model": model, "weights": weights})


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(_text(values).encode()).hexdigest()
