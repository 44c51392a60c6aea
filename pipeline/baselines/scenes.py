"""One model per scene behind one interface: baselines have no condition vector, so each must know its camera so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from pipeline.models.anomaly_model import AnomalyMaps, rows_of
from pipeline.models.score import frame_scores


class SceneModel(Protocol):
    """The model of one scene."""

    def maps_of_features(self, features: Sequence[Tensor]) -> AnomalyMaps:
        """Maps of frames of the scene, from whatever features the method takes."""
        ...


class SceneModels(nn.Module):
    """The models of all scenes of a checkpoint, and which frame goes to which.

    Frames of a scene that was not trained on are given to every scene's model, and each keeps the maps of the one that
    scores it lowest: an unknown camera is as anomalous as it is unlike all that are known.

    Args:
        scenes: names of the training scenes.
        models: of each, a ``SceneModel``.
        top_fraction: as for ``frame_scores``.

    Attributes:
        top_fraction: as given.
    """

    def __init__(self, scenes: Sequence[str], models: Sequence[nn.Module], top_fraction: float) -> None:
        super().__init__()
        self.top_fraction = top_fraction
        self._row_of = {scene: row for row, scene in enumerate(scenes)}
        self.models = nn.ModuleList(models)

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """Number of each scene's model; unknown scenes get the number of models. int64, shape (len(scenes),)."""
        return rows_of(scenes, self._row_of)

    def maps_of_features(self, features: Sequence[Tensor], scene_rows: Tensor) -> AnomalyMaps:
        """Maps of frames of any scenes.

        Args:
            features: tensors whose first dimension is the frame.
            scene_rows: as ``scene_rows`` gives them, int64, shape (B,).
        """
        rows = scene_rows.tolist()
        if len(set(rows)) == 1:
            return self._maps_of_scene(features, rows[0])
        frames = {row: [frame for frame, of in enumerate(rows) if of == row] for row in sorted(set(rows))}
        device = features[0].device
        found: list[AnomalyMaps] = []
        for row, members in frames.items():
            chosen = torch.tensor(members, device=device)
            found.append(self._maps_of_scene([part[chosen] for part in features], row))
        places = torch.tensor(list(chain.from_iterable(frames.values())), device=device).argsort()
        shown = torch.cat([maps.shown for maps in found])[places]
        if all(maps.scored is maps.shown for maps in found):
            return AnomalyMaps(shown, shown)
        return AnomalyMaps(shown, torch.cat([maps.scored for maps in found])[places])

    def _maps_of_scene(self, features: Sequence[Tensor], row: int) -> AnomalyMaps:
        if row < len(self.models):
            return self._model(row).maps_of_features(features)
        best = self._model(0).maps_of_features(features)
        for other in range(1, len(self.models)):
            best = self._nearer(best, self._model(other).maps_of_features(features))
        return best

    def _nearer(self, one: AnomalyMaps, other: AnomalyMaps) -> AnomalyMaps:
        """Of each frame the maps with the lower score, the first ones of two that are alike."""
        scores, scores_there = (frame_scores(maps.scored, self.top_fraction) for maps in (one, other))
        nearer = (scores_there < scores)[:, None, None]
        shown = torch.where(nearer, other.shown, one.shown)
        if one.scored is one.shown:
            return AnomalyMaps(shown, shown)
        return AnomalyMaps(shown, torch.where(nearer, other.scored, one.scored))

    def _model(self, row: int) -> SceneModel:
        return cast(SceneModel, self.models[row])


def scene_tensors(tensors: Mapping[str, Tensor], scenes: int, names: Sequence[str]) -> list[dict[str, Tensor]]:
    """Sort a checkpoint's tensors, named ``models.ROW.NAME``, by scene.

    Args:
        tensors: what the checkpoint holds beside the encoder.
        scenes: how many there must be.
        names: of the tensors that each scene must have.

    Raises:
        RuntimeError: one is missing, or there are others.
    """
    left = dict(tensors)
    try:
        found = [{name: left.pop(f"models.{row}.{name}") for name in names} for row in range(scenes)]
    except KeyError as error:
        raise RuntimeError(f"no tensor {error.args[0]}") from None
    if left or not scenes:
        raise RuntimeError(f"unknown tensors {sorted(left)[:3]}" if left else "no scene")
    return found


def check_tensor(tensor: Tensor, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor that has the shape and type it should have.

    Raises:
        RuntimeError: it has not.
    """
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
        raise RuntimeError(f"{name}: expected {dtype} {tuple(shape)}, got {tensor.dtype} {tuple(tensor.shape)}")
    return tensor


Sizes = tuple[tuple[int, int], ...]
Progress = Callable[[int, int], None]


def level_sizes(image_size_px: tuple[int, int], strides: Sequence[int]) -> Sizes:
    """(height, width) of every level's feature map."""
    return tuple((image_size_px[0] // stride, image_size_px[1] // stride) for stride in strides)
