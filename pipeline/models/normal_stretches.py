"""What is known to be normal of a scene: the footage that a camera's thresholds are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.errors import CheckpointError
from pipeline.models.card import ModelCard
from pipeline.normal_footage import NormalStretch, StretchKind

_Clips = Mapping[str, Sequence[Sequence[float]]]


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
    return tuple(
        NormalStretch(
            "learned" if stretch.kind == "own" else stretch.kind, stretch.fps, stretch.scores, stretch.unpaired
        )
        for stretch in pooled
    )


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
