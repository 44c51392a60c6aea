import pytest
import torch

from pipeline.inference.tuning import PLAIN


@pytest.fixture
def growth(monkeypatch):
    """The script, with everything in it made small."""
    from benchmarks import growth

    monkeypatch.setattr(growth, "SIZE_PX", (64, 96))
    monkeypatch.setattr(growth, "SIZES_PX", ((32, 64), (64, 96), (96, 128)))
    monkeypatch.setattr(growth, "FRAMES", (3, 6, 12, 24))
    monkeypatch.setattr(growth, "CAMERAS", (1, 2))
    monkeypatch.setattr(growth, "TRAIN_FRAMES", 4)
    monkeypatch.setattr(growth, "_LEAST_ROUNDS", 1)
    monkeypatch.setattr(growth, "_LEAST_S", 0.0)
    monkeypatch.setattr(growth, "_BATCH", 2)
    monkeypatch.setattr(growth, "choose_tuning", lambda *_: PLAIN)  # speed is not what is tested
    return growth


def test_sizes_grow_as_the_methods_say(growth, tmp_path):
    torch.manual_seed(0)
    points = growth.measure_all(neighbours=1)
    size = {(point.against, point.system, point.value): point.model_mb for point in points}
    # Differences: beside its tensors a file has a header, which weighs something in files as small as these.
    grown = [size["frames", "SPADE", more] - size["frames", "SPADE", less] for less, more in ((3, 6), (6, 12))]
    assert grown[1] == pytest.approx(2 * grown[0], rel=0.01)
    assert size["pixels", "PaDiM", 96 * 128] == pytest.approx(6 * size["pixels", "PaDiM", 32 * 64], rel=0.02)
    assert size["pixels", "flows", 96 * 128] == pytest.approx(size["pixels", "flows", 32 * 64], rel=0.01)
    separate, together = "flows, one model per camera", "flows, camera embeddings"
    assert size["cameras", separate, 2] == pytest.approx(2 * size["cameras", separate, 1], rel=0.01)
    assert size["cameras", together, 2] == pytest.approx(size["cameras", together, 1], rel=0.01)
    assert all(point.frames_per_s > 0.0 for point in points)
    growth.draw(points, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
