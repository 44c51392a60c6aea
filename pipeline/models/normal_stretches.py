"""What is known to be normal of a scene: the footage that a camera's thresholds are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.errors import CheckpointError
from pipeline.models.card import ModelCard
from pipeline.normal_footage import AddedStretch, NormalStretch, StretchKind


def stretches_of_scene(card: ModelCard, scene: str) -> tuple[NormalStretch, ...]:
    """Normal footage of a scene, as a model's card holds it.

    A scene that the model does not know gets all scenes' footage. That is a stopgap: cameras differ in level, so alarms
    come too often or too seldom; and footage of other cameras proves nothing, so no hour of it counts (``learned``).

    Args:
        card: of the model.
        scene: the scene that the camera was trained as.

    Returns:
        At least one stretch; none is empty.

    Raises:
        CheckpointError: there is no score, or the scores with and without pairs are not of the same frames.
    """
    of_scene = _stretches(card, scene)
    if of_scene:
        return of_scene
    pooled = [stretch for known in card.normal_scores for stretch in _stretches(card, known)]
    if not pooled:
        raise CheckpointError("model.json: normal_scores: expected scores of held-out normal frames, got none")
    return _proving_nothing(pooled)


def stretches_of_camera(
    card: ModelCard, scene: str, camera_id: str, added: Sequence[AddedStretch] = (), zones: str = ""
) -> tuple[NormalStretch, ...]:
    """Normal footage of a camera, as it looks at it: what the card holds of its scene, and what was added since.

    Within zones only what was scored under the same ones tells of it. Where there is none, all of the image is a
    stopgap that proves nothing.

    Args:
        card: of the model.
        scene: the scene that the camera was trained as.
        camera_id: the camera.
        added: normal footage of the model beside its card.
        zones: the zones that hold, by their regime's key; empty for all of the image.

    Returns:
        At least one stretch; none is empty.

    Raises:
        CheckpointError: as ``stretches_of_scene``.
    """
    found = tuple(one.stretch for one in added if one.is_of(scene, camera_id) and one.zones == zones)
    if not zones:
        return *stretches_of_scene(card, scene), *found
    return found or _proving_nothing(stretches_of_scene(card, scene))


def _proving_nothing(stretches: Iterable[NormalStretch]) -> tuple[NormalStretch, ...]:
    """Footage of something else: no hour of it counts."""
    return tuple(replace(one, kind="learned") if one.kind == "own" else one for one in stretches)


def _stretches(card: ModelCard, scene: str) -> tuple[NormalStretch, ...]:
    """What was measured of a scene itself."""
    clips = card.normal_scores.get(scene, ())
    unpaired = card.unpaired_scores.get(scene, ())
    if unpaired and [len(clip) for clip in unpaired] != [len(clip) for clip in clips]:
        raise CheckpointError(
            f"model.json: unpaired_scores: expected one for every frame of normal_scores of scene {scene!r}, got others"
        )
    kinds: tuple[StretchKind, ...] = card.normal_kinds.get(scene) or ("own",) * len(clips)
    return tuple(
        NormalStretch(
            kind,
            card.normal_fps,
            np.array(clip, np.float64),
            np.array(unpaired[number], np.float64) if unpaired else None,
        )
        for number, (kind, clip) in enumerate(zip(kinds, clips, strict=True))
        if clip
    )
