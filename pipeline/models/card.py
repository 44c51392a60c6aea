"""What a checkpoint says of itself: ``model.json``, beside the weights in ``model.safetensors``. Free of torch.

Two digests guard it. The fingerprint names the model: it covers the weights and everything that decides a score, so the
same training gives the same fingerprint. The checksum covers all of ``model.json``, provenance too. Reading checks
both, so a single damaged byte in either file is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from pipeline.camera_settings import CameraSettings
from pipeline.config import TrainingSettings
from pipeline.errors import CheckpointError
from pipeline.methods import DEFAULT_METHOD, METHODS
from pipeline.model_settings import ModelSettings
from pipeline.normal_footage import StretchKind
from pipeline.types import SceneReference

CARD_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = 1

# Where the encoder's weights came from; the checkpoint holds the weights themselves.
_PROVENANCE = frozenset({"model.encoder.weights", "model.encoder.seed"})
# Limits that a training was held to, which no score depends on.
_LIMITS = frozenset(f"model.{method.section}.{limit}" for method in METHODS.values() for limit in method.limits)
# What decides a score. The rest of a card tells where the model comes from.
_IDENTITY = ("format", "model", "scenes", "levels", "normal_scores", "normal_fps")
# Without them a model scores, and is named, as before there were any.
_IDENTITY_IF_MEASURED = ("read_out", "unpaired_scores")

_SHOWN = 12


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LevelConstants(_Card):
    """What one level's log-likelihoods look like on held-out normal frames; nats per dimension.

    Attributes:
        stride: of the level, in pixels.
        channels: D, length of its feature vectors.
        mean: mean over frames and positions.
        std: standard deviation over frames and positions.
    """

    stride: PositiveInt
    channels: PositiveInt
    mean: float
    std: PositiveFloat


class ChannelConstants(_Card):
    """What one channel of the read-out comes to on normal frames, in the unit of its maps.

    Attributes:
        centre: median over frames of what is read off.
        spread: its standard deviation, or a floor where it hardly varies.
    """

    centre: float
    spread: PositiveFloat


class ReadOutConstants(_Card):
    """How maps are brought into one unit (``pipeline.models.read_out``); measured on held-out normal frames.

    Attributes:
        common_share: part of its median that is taken off every map of appearance, 0 to 1.
        common: of those medians.
        shown: of what is read off the maps that are shown.
        scored: of what is read off the maps that scores are read off.
        motion: of what is read off maps of speed; None for a model without motion, or that was shown no pair.
    """

    common_share: Annotated[float, Field(ge=0.0, le=1.0)]
    common: ChannelConstants
    shown: ChannelConstants
    scored: ChannelConstants
    motion: ChannelConstants | None


class Provenance(_Card):
    """Where a model comes from; nothing here changes a score.

    Attributes:
        dataset: kind of the training data.
        training: how it was fitted.
        completed: whether training ran to its end; False after an interruption.
        epochs: whole passes over the training frames that were done.
        steps: optimiser steps that were done.
        train_frames: frames it was fitted to.
        holdout_frames: normal frames kept from fitting, on which the constants were measured.
        folds: where the footage was cross-fitted, how many models of parts of it were measured on the rest; else 0.
        losses: mean loss of the last steps by level (``stride 8``, ``block 3``; in older checkpoints ``8``); empty
            for a method without any.
        condition_strengths: how much of the flows' conditions the footage supported, by level, from 0 (none) to 1; the
            weights hold it already. Empty where it was not chosen.
        trained_at_s: Unix time at which training ended.
        versions: of Python and of the libraries that decide numbers.
    """

    dataset: str
    training: TrainingSettings
    completed: bool
    epochs: int
    steps: int
    train_frames: int
    holdout_frames: int
    folds: int = 0
    losses: dict[str, float]
    condition_strengths: dict[str, float] = {}
    trained_at_s: float
    versions: dict[str, str]


class ModelCard(_Card):
    """A model in words and numbers.

    Attributes:
        format: version of this layout.
        model: settings with everything resolved that was left to timm (mean, std). ``encoder.weights`` tells where the
            encoder's weights once came from; the checkpoint holds them itself.
        scenes: names of the training scenes, in the order of the camera embedding's rows.
        levels: constants of scoring, finest level first; empty for a method that needs none.
        read_out: constants of the read-out; None in a checkpoint of an older release, whose scores are read off the
            maps as they are.
        normal_scores: anomaly scores of normal frames by scene: one tuple per stretch of footage, in frame order.
        normal_kinds: what each of these tuples is good for, by scene; absent in a checkpoint of an older release, which
            does not tell: all count as ``own``.
        unpaired_scores: the same of frames without a pair; empty where none were measured, so that ``normal_scores``
            serve both.
        normal_common: common surprise of the frames of ``normal_scores``; empty where none was measured, and nobody can
            tell that the light has changed. It decides no score.
        normal_fps: frames per second of all these tuples.
        views: what the scenes look like, to notice a camera that was moved; empty in a checkpoint of an older release,
            which cannot tell. They decide no score.
        provenance: where the model comes from.
        fingerprint: SHA-256 (hex) over the weights and everything that decides a score.
    """

    format: Literal[1] = FORMAT
    model: ModelSettings
    scenes: tuple[str, ...]
    levels: tuple[LevelConstants, ...]
    read_out: ReadOutConstants | None = None
    normal_scores: dict[str, tuple[tuple[float, ...], ...]]
    normal_kinds: dict[str, tuple[StretchKind, ...]] = {}
    unpaired_scores: dict[str, tuple[tuple[float, ...], ...]] = {}
    normal_common: dict[str, tuple[tuple[float, ...], ...]] = {}
    normal_fps: PositiveFloat
    views: dict[str, SceneReference] = {}
    provenance: Provenance
    fingerprint: str = ""

    @model_validator(mode="after")
    def _says_of_every_stretch_what_it_is(self) -> Self:
        for scene, kinds in self.normal_kinds.items():
            stretches = len(self.normal_scores.get(scene, ()))
            if len(kinds) != stretches:
                raise ValueError(
                    f"normal_kinds: {scene}: expected one for each of {stretches} stretches, got {len(kinds)}"
                )
        return self

    @property
    def footage_fps(self) -> float:
        """Frames per second at which the training footage was filmed."""
        return self.normal_fps * self.provenance.training.frame_step

    @property
    def short_fingerprint(self) -> str:
        """The first 12 digits of the fingerprint."""
        return self.fingerprint[:12]


def write_card(card: ModelCard, folder: Path) -> ModelCard:
    """Write ``model.json`` for the ``model.safetensors`` that lies in ``folder``.

    Args:
        card: its fingerprint is not looked at.
        folder: where the weights lie.

    Returns:
        The card with its fingerprint.
    """
    values = card.model_dump(mode="json", exclude={"fingerprint"})
    fingerprint = _fingerprint(values, folder / WEIGHTS_FILE)
    values["fingerprint"] = fingerprint
    values["checksum"] = _checksum(values)
    (folder / CARD_FILE).write_text(_text(values), encoding="utf-8")
    return card.model_copy(update={"fingerprint": fingerprint})


def read_card(folder: Path) -> ModelCard:
    """Read a checkpoint's card and check it, and the weights, against their digests.

    Raises:
        CheckpointError: a file is missing, damaged or of another format; one line that names it.
    """
    path, weights = folder / CARD_FILE, folder / WEIGHTS_FILE
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a model folder written by 'train', got no such folder")
    for file in (path, weights):
        if not file.is_file():
            raise CheckpointError(f"{file}: expected a file of a model folder written by 'train', got nothing")
    card, values = _read_description(path)
    if card.fingerprint != _fingerprint(values, weights):
        raise CheckpointError(
            f"{weights}: expected the weights with fingerprint {card.short_fingerprint}, got others: the file is "
            "damaged or belongs to another model"
        )
    return card


def read_description(path: Path) -> ModelCard:
    """Read a ``model.json`` alone, checked against its checksum; what its weights are is not looked at.

    Raises:
        CheckpointError: it is missing, damaged or of another format; one line that names it.
    """
    return _read_description(path)[0]


def _read_description(path: Path) -> tuple[ModelCard, dict[str, Any]]:
    """A card, and the values that its file holds."""
    values = _read_values(path)
    checksum = values.pop("checksum", None)
    if checksum != _checksum(values):
        raise CheckpointError(f"{path}: expected the checksum {checksum!r}, got other contents: the file is damaged")
    if values.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format: expected {FORMAT}, got {values.get('format')!r}: train again")
    try:
        card = ModelCard.model_validate(_as_meant(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise CheckpointError(f"{path}: {' '.join(said.split())}") from None
    return card, values


def check_matches(expected: ModelSettings, card: ModelCard, place: Path | str) -> None:
    """Compare a configuration with a model.

    Args:
        expected: the configuration's model settings; settings left to their defaults state nothing.
        card: of the model.
        place: of the model, for the message.

    Raises:
        CheckpointError: at the first setting that the configuration states and the model was not trained with.
    """
    _compare(expected, card.model, "model", place, _unused_sections(card.model.method))


def unknown_scenes(cameras: Iterable[CameraSettings], known: Collection[str]) -> list[str]:
    """One line for every scene that cameras are of and the model was not trained on, with what that means.

    Args:
        cameras: the cameras.
        known: the model's scenes.
    """
    cameras_of: dict[str, list[str]] = {}
    for camera in cameras:
        if camera.scene_name not in known:
            cameras_of.setdefault(camera.scene_name, []).append(camera.id)
    return [
        f"camera {_some(ids)}: the model knows no scene {scene!r} (it knows {_some(list(known))}); "
        "the threshold is that of all scenes together"
        for scene, ids in cameras_of.items()
    ]


def _some(names: list[str]) -> str:
    """Names in one line, the first ones where there are many."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _unused_sections(method: str) -> frozenset[str]:
    """Paths of the sections that a method does not read: what they say decides nothing."""
    return frozenset(f"model.{other.section}" for name, other in METHODS.items() if name != method)


def _compare(expected: BaseModel, found: BaseModel, where: str, place: Path | str, passed_over: frozenset[str]) -> None:
    """Raise at the first setting that the configuration states and the checkpoint does not meet."""
    for name in sorted(expected.model_fields_set):
        path = f"{where}.{name}"
        wanted: Any = getattr(expected, name)
        got: Any = getattr(found, name)
        if path in passed_over:
            continue
        if isinstance(wanted, BaseModel) and isinstance(got, BaseModel):
            _compare(wanted, got, path, place, passed_over)
        elif wanted is not None and wanted != got and path not in _PROVENANCE | _LIMITS:
            shown = [list(value) if isinstance(value, tuple) else value for value in (wanted, got)]
            raise CheckpointError(
                f"{place}: {path}: expected {shown[0]!r} as in the configuration, got a model trained with {shown[1]!r}"
            )


def _read_values(path: Path) -> dict[str, Any]:
    """Read the card's JSON, which must be byte for byte what ``write_card`` writes."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
        written = _text(values)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected readable JSON, got: {error}") from error
    except RecursionError:
        raise CheckpointError(f"{path}: expected readable JSON, got endless nesting") from None
    if not isinstance(values, dict) or written != text:
        raise CheckpointError(f"{path}: expected the JSON that 'train' writes, got other contents: the file is damaged")
    return values


def _as_meant(values: dict[str, Any]) -> dict[str, Any]:
    """A card's values; one from before a condition could be chosen was trained with the whole of it."""
    model = values.get("model")
    flow = model.get("flow") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(flow, dict):
        return values
    return {**values, "model": {**model, "flow": {"condition": "position", **flow}}}


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(_text(values).encode()).hexdigest()


def _fingerprint(values: dict[str, Any], weights: Path) -> str:
    """SHA-256 over what decides a score. Where the encoder's weights came from does not: they are in the file."""
    identity: dict[str, Any] = {key: values.get(key) for key in _IDENTITY}
    identity |= {key: values[key] for key in _IDENTITY_IF_MEASURED if values.get(key)}
    model: dict[str, Any] = dict(identity["model"])
    encoder: dict[str, Any] = model.get("encoder", {})
    model["encoder"] = {key: value for key, value in encoder.items() if key not in {"weights", "seed"}}
    # As the file has them, not as this release would write them: a card from before a setting, a section or the choice
    # of a method came to be lacks it, and its fingerprint stays what it was.
    name = model.get("method", DEFAULT_METHOD)
    for method in METHODS.values():
        section: Any = model.get(method.section)
        if method.name != name:
            model.pop(method.section, None)
        elif isinstance(section, dict):
            model[method.section] = {key: value for key, value in section.items() if key not in method.limits}
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(_text({**identity, "model": model, "weights": digest}).encode()).hexdigest()
