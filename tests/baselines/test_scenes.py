import pytest
import torch
from torch import nn

from pipeline.baselines.scenes import SceneModels, check_tensor, scene_tensors
from pipeline.models.anomaly_model import AnomalyMaps


class Distance(nn.Module):
    """A scene whose normal frames hold one value; scores are read off the map that is shown, or another."""

    def __init__(self, value, whole_frames):
        super().__init__()
        self.value = value
        self.whole_frames = whole_frames

    def maps_of_features(self, features):
        away = (features[0] - self.value).abs().view(-1, 1, 1)
        shown = away.expand(-1, 2, 3)
        return AnomalyMaps(shown, away if self.whole_frames else shown)


def models(whole_frames):
    return SceneModels(["gate", "yard"], [Distance(0.0, whole_frames), Distance(10.0, whole_frames)], 0.0)


MODELS = models(whole_frames=False)
BOTH = pytest.mark.parametrize("models", [MODELS, models(whole_frames=True)], ids=["one map", "two maps"])


@BOTH
def test_a_batch_may_mix_scenes_in_any_order(models):
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    maps = models.maps_of_features([values], models.scene_rows(["yard", "gate", "yard", "gate"]))
    assert maps.shown.shape == (4, 2, 3)
    assert maps.shown[:, 0, 0].tolist() == [9.0, 2.0, 7.0, 4.0]
    assert maps.scored[:, 0, 0].tolist() == [9.0, 2.0, 7.0, 4.0]
    assert (maps.scored is maps.shown) == (models is MODELS)


@BOTH
def test_a_frame_of_an_unknown_scene_keeps_the_maps_of_the_scene_it_suits_best(models):
    maps = models.maps_of_features([torch.tensor([1.0, 8.0, 1.0])], models.scene_rows(["moon", "moon", "yard"]))
    assert maps.shown[:, 1, 2].tolist() == [1.0, 2.0, 9.0]
    assert maps.scored[:, 0, 0].tolist() == [1.0, 2.0, 9.0]
    assert (maps.scored is maps.shown) == (models is MODELS)


def test_rows_are_on_the_cpu_and_unknown_scenes_share_the_last():
    rows = MODELS.scene_rows(["yard", "a", "b", "gate"])
    assert rows.dtype == torch.int64
    assert rows.tolist() == [1, 2, 2, 0]


def test_tensors_are_sorted_by_scene():
    tensors = {f"models.{row}.{name}": torch.tensor(row) for row in range(2) for name in ("a", "b")}
    assert [of_scene["b"].item() for of_scene in scene_tensors(tensors, 2, ["a", "b"])] == [0, 1]


@pytest.mark.parametrize(
    ("names", "scenes", "said"),
    [(["models.0.a"], 2, "no tensor models.1.a"), (["models.0.a", "x"], 1, "unknown"), ([], 0, "no scene")],
)
def test_missing_and_strange_tensors_are_named(names, scenes, said):
    with pytest.raises(RuntimeError, match=said):
        scene_tensors(dict.fromkeys(names, torch.zeros(1)), scenes, ["a"])


def test_a_tensor_of_another_shape_or_type_is_named():
    with pytest.raises(RuntimeError, match=r"mean: expected torch.float32 \(2,\), got torch.float32 \(3,\)"):
        check_tensor(torch.zeros(3), "mean", (2,))
    with pytest.raises(RuntimeError, match=r"torch.float16"):
        check_tensor(torch.zeros(2).half(), "mean", (2,))
