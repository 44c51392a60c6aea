"""Normal footage as a camera's zones see it: thresholds are measured under the mask that frames are read under."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.model_settings import top_count
from pipeline.models.normal_store import NormalStore
from pipeline.normal_footage import AddedStretch, NormalStretch
from pipeline.zoning import Regime

STORED_MAPS = "stored maps"
"""Source of what is read off maps that lie beside the model."""


def scores_under(maps: npt.NDArray[np.float16], regime: Regime, top_fraction: float) -> npt.NDArray[np.float64]:
    """Scores of frames, read off their maps as ``pipeline.models.read_out`` does under a mask.

    Args:
        maps: as scores are read off them, shape (T, h, w).
        regime: the zones that hold.
        top_fraction: as ``ScoreSettings`` has it.

    Returns:
        Shape (T,).
    """
    weights = regime.weights(*maps.shape[1:])
    counts = weights > 0.0
    values, factors = maps[:, counts].astype(np.float32), weights[counts]
    values = np.where(values > 0.0, values * factors, values)
    count = top_count(values.shape[1], top_fraction)
    return np.partition(values, -count, axis=1)[:, -count:].mean(axis=1, dtype=np.float64)


def stretches_under(
    regimes: Sequence[Regime], store: NormalStore, scene: str, top_fraction: float
) -> dict[str, tuple[AddedStretch, ...]]:
    """What a scene's stored maps score under zones, by the regime's key.

    Args:
        regimes: the zones that hold, at each of some times.
        store: of the model.
        scene: its name.
        top_fraction: as ``ScoreSettings`` has it.

    Returns:
        Of every regime; nothing where there are no maps of the scene.

    Raises:
        CheckpointError: the maps are damaged.
    """
    found: dict[str, list[AddedStretch]] = {regime.key: [] for regime in regimes}
    for maps in store.maps(scene):  # in one go: they may be hundreds of megabytes
        for regime in regimes:
            scores = scores_under(maps.maps, regime, top_fraction)
            alone = None if maps.unpaired is None else scores_under(maps.unpaired, regime, top_fraction)
            stretch = NormalStretch(maps.kind, maps.fps, scores, alone)
            found[regime.key].append(AddedStretch(stretch, scene, source=STORED_MAPS, zones=regime.key))
    return {key: tuple(stretches) for key, stretches in found.items()}
