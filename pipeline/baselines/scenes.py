"""One model per scene behind one interface: baselines have no condition vector, so each must know its camera so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from pipeline.models.detector import rows_of


class SceneModel(Protocol):
    """The model of one scene."""

    def judge(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (B, h, w) and scores (B,) of frames of the scene, from whatever features the method takes."""
        ...


class SceneModels(nn.Module):
    """The models of all scenes of a checkpoint, and which frame goes to which.

    A scene that was not trained on is judged by every scene's model, and each of its frames keeps the judgement of the
    one it surprises least: an unknown camera is as anomalous as it is unlike all that are known.

    Args:
        scenes: names of the training scenes.
        models: of each, a ``SceneModel``.
    """

    def __init__(self, scenes: Sequence[str], models: Sequence[nn.Module]) -> None:
        super().__init__()
        self._row_of = {scene: row for row, scene in enumerate(scenes)}
        self.models = nn.ModuleList(models)

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """Number of each scene's model; unknown scenes get the number of models. int64, shape (len(scenes),)."""
        return rows_of(scenes, self._row_of)

    def judge_features(self, features: Sequence[Tensor], scene_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Judge frames of any scenes.

        Args:
            features: tensors whose first dimension is the frame.
            scene_rows: as ``scene_rows`` gives them, int64, shape (B,).

        Returns:
            Maps (B, h, w) and scores (B,).
        """
        rows = scene_rows.tolist()
        if len(set(rows)) == 1:
            return self._judge_scene(features, rows[0])
        maps: list[Tensor] = [torch.empty(0)] * len(rows)
        scores: list[Tensor] = [torch.empty(0)] * len(rows)
        for row in sorted(set(rows)):
            members = [frame for frame, of in enumerate(rows) if of == row]
            chosen = torch.tensor(members, device=features[0].device)
            found = self._judge_scene([part[chosen] for part in features], row)
            for frame, anomaly_map, score in zip(members, *found, strict=True):
                maps[frame], scores[frame] = anomaly_map, score
        return torch.stack(maps), torch.stack(scores)

    def _judge_scene(self, features: Sequence[Tensor], row: int) -> tuple[Tensor, Tensor]:
        if row < len(self.models):
            return self._model(row).judge(features)
        maps, scores = self._model(0).judge(features)
        for other in range(1, len(self.models)):
            maps_there, scores_there = self._model(other).judge(features)
            nearer = scores_there < scores
            maps = torch.where(nearer[:, None, None], maps_there, maps)
            scores = torch.where(nearer, scores_there, scores)
        return maps, scores

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
