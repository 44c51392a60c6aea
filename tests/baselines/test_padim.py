import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance

from pipeline.baselines import padim as padim_module
from pipeline.baselines.padim import Moments, Padim, PadimScene, draw_channels
from pipeline.errors import ModelSizeError
from pipeline.models import memory
from tests.baselines.made import CHANNELS, SIZES, levels, repeated, settings

AREA = SIZES[0][0] * SIZES[0][1]


def fitted(train, channels=12, ridge=0.01, batches=3):
    chosen = draw_channels(sum(CHANNELS), channels, seed=0)
    moments = Moments(AREA, len(chosen))
    for part in torch.chunk(repeated(train)[:, chosen], batches):
        moments.add(part.flatten(2).transpose(1, 2))
    model = settings(padim={"channels": channels, "ridge": ridge})
    return PadimScene(chosen, *moments.gaussians(ridge), model)


def test_distances_are_scipys_mahalanobis_at_every_position():
    train, test = levels(40), levels(4, seed=1)
    scene = fitted(train)
    got = scene.distances(test)
    seen, asked = (repeated(part)[:, scene.channels].numpy() for part in (train, test))
    for y, x in [(0, 0), (3, 7), (7, 11)]:
        samples = seen[:, :, y, x]
        precision = np.linalg.inv(np.cov(samples, rowvar=False) + 0.01 * np.eye(samples.shape[1]))
        for frame in range(4):
            expected = mahalanobis(asked[frame, :, y, x], samples.mean(axis=0), precision)
            assert got[frame, y, x].item() == pytest.approx(expected, rel=1e-4)


def test_distances_are_scikit_learns_without_the_ridge():
    """With N instead of N - 1 and no ridge, its EmpiricalCovariance is the same Gaussian."""
    train, test = levels(60), levels(3, seed=1)
    scene = fitted(train, ridge=1e-9)
    seen, asked = (repeated(part)[:, scene.channels, 2, 5].numpy() for part in (train, test))
    expected = EmpiricalCovariance().fit(seen).mahalanobis(asked)  # squared
    got = scene.distances(test)[:, 2, 5].double().square().numpy()
    np.testing.assert_allclose(got * 60 / 59, expected, rtol=1e-3)


@given(batches=st.integers(1, 11), offset=st.sampled_from([0.0, 1e3]))
def test_moments_do_not_depend_on_how_the_frames_were_batched(batches, offset):
    values = torch.randn(11, 4, 3, generator=torch.Generator().manual_seed(0)) + offset
    moments = Moments(4, 3)
    for part in torch.chunk(values, batches):
        moments.add(part)
    mean, whitening = moments.gaussians(0.01)
    assert moments.count == 11
    torch.testing.assert_close(mean, values.double().mean(dim=0).float())
    for position in range(4):
        covariance = torch.cov(values[:, position].double().T) + 0.01 * torch.eye(3)
        found = torch.linalg.inv(whitening[position].double().T @ whitening[position].double())
        torch.testing.assert_close(found, covariance.double(), rtol=1e-4, atol=1e-6)


def test_a_single_frame_leaves_the_ridge():
    moments = Moments(2, 3)
    moments.add(torch.ones(1, 2, 3))
    _, whitening = moments.gaussians(0.01)
    torch.testing.assert_close(whitening, 10.0 * torch.eye(3).expand(2, 3, 3))


def test_channels_are_drawn_from_the_seed_without_repeats():
    drawn = draw_channels(50, 20, seed=3)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert torch.equal(drawn, draw_channels(50, 20, seed=3))
    assert not torch.equal(drawn, draw_channels(50, 20, seed=4))
    assert draw_channels(5, 20, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_a_score_does_not_depend_on_the_frames_beside_it():
    scene, test = fitted(levels(30)), levels(5, seed=2)
    maps = scene.maps_of_features(test)
    assert maps.scored is maps.shown
    for frame in range(5):
        alone = scene.maps_of_features([part[frame : frame + 1] for part in test])
        torch.testing.assert_close(alone.shown[0], maps.shown[frame])


def test_what_was_stored_gives_the_same_maps():
    model = settings(padim={"channels": 12})
    scenes = Padim(["a", "b"], [fitted(levels(30)), fitted(levels(30, seed=9))], model.score.top_fraction)
    again = Padim.build(model, CHANNELS, ["a", "b"], scenes.state_dict())
    rows = scenes.scene_rows(["b", "a", "c"])
    one, other = (of.maps_of_features(levels(3), rows) for of in (scenes, again))
    assert torch.equal(one.shown, other.shown)
    assert one.scored is one.shown


@pytest.mark.parametrize("fault", ["order", "range", "mean", "whitening"])
def test_tensors_that_do_not_fit_the_settings_are_refused(fault):
    tensors = Padim(["a"], [fitted(levels(30))], 0.005).state_dict()
    if fault == "order":
        tensors["models.0.channels"] = tensors["models.0.channels"].flip(0)
    elif fault == "range":
        tensors["models.0.channels"] = tensors["models.0.channels"] + 10
    else:
        tensors[f"models.0.{fault}"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="channels: expected rising" if fault in {"order", "range"} else fault):
        Padim.build(settings(padim={"channels": 12}), CHANNELS, ["a"], tensors)


def test_matrices_that_no_memory_can_hold_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    with pytest.raises(ModelSizeError, match=r"model.padim: 1,536 positions .* 0.17 GiB .* got 0.00 GiB") as caught:
        Moments(1536, 100)
    assert "\n" not in str(caught.value)
    assert padim_module.check_memory is memory.check_memory
