import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from pipeline.baselines.differnet import Differnet, GlowFlow, pooled_views, scaled_sizes
from pipeline.model_settings import DiffernetSettings
from tests.baselines.made import CHANNELS, settings

SMALL = {"blocks": 2, "hidden_dims": 16}


def flow(dims, seed=0, **shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = GlowFlow(dims, DiffernetSettings(**{**SMALL, **shape}))
        for parameter in made.parameters():  # a fresh flow is the identity
            torch.nn.init.normal_(parameter, std=0.3)
    made.standardise(torch.linspace(-1.0, 2.0, dims), torch.linspace(0.5, 3.0, dims))
    return made


@pytest.mark.parametrize("dims", [2, 5, 8])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_log_det_is_that_of_autograds_jacobian(dims, layers):
    model = flow(dims, hidden_layers=layers).double()
    vectors = torch.randn(6, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    latents, log_det = model(vectors)
    for number, vector in enumerate(vectors):
        jacobian = torch.autograd.functional.jacobian(lambda one: model(one.unsqueeze(0))[0][0], vector)
        assert log_det[number].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-9)
        expected = multivariate_normal(np.zeros(dims)).logpdf(latents[number].detach().numpy()) + log_det[number].item()
        assert model.log_likelihood(vector.unsqueeze(0)).item() == pytest.approx(expected, abs=1e-9)


def test_the_density_of_a_gaussian_is_learned():
    """Trained on a correlated 2-D Gaussian, the log-likelihood comes close to the analytic one."""
    covariance = np.array([[2.0, 1.2], [1.2, 1.5]])
    truth = multivariate_normal([1.0, -2.0], covariance)
    train = torch.from_numpy(truth.rvs(8000, random_state=0)).float()
    test = truth.rvs(1000, random_state=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GlowFlow(2, DiffernetSettings(blocks=2, hidden_dims=16))
    model.standardise(train.mean(dim=0), train.std(dim=0))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(300):
        optimiser.param_groups[0]["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / 300))
        optimiser.zero_grad()
        (-model.log_likelihood(train).mean()).backward()
        optimiser.step()
    got = model.log_likelihood(torch.from_numpy(test).float()).detach().numpy()
    error = got - truth.logpdf(test)
    assert abs(error).mean() < 0.1
    assert abs(error.mean()) < 0.02  # the Kullback-Leibler divergence, which is all that training minimises


def made(scenes=("gate", "yard"), channels=CHANNELS, **differnet):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Differnet(settings(differnet={**SMALL, **differnet}), channels, scenes).eval()


def encode(images):
    """A stand-in for an encoder: means of patches of 32 px, in 9 channels that differ."""
    pixels = images.permute(0, 3, 1, 2).float().mean(dim=1, keepdim=True) / 255.0
    patches = torch.nn.functional.avg_pool2d(pixels, 32)
    return [patches, patches, patches * torch.arange(1.0, 10.0).view(1, 9, 1, 1)]


def images(count=3):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8))


def test_scales_are_multiples_of_the_coarsest_stride():
    assert scaled_sizes(settings(image_size_px=[256, 384])) == [(256, 384), (128, 192), (64, 96)]
    assert scaled_sizes(settings()) == [(64, 96), (32, 64), (32, 32)]


@pytest.mark.parametrize(("rotations", "views"), [(0, 1), (1, 1), (3, 3)])
def test_every_view_is_encoded_at_every_scale(rotations, views):
    seen = []

    def watched(batch):
        assert batch.dtype == torch.uint8
        seen.append(tuple(batch.shape[1:3]))
        return encode(batch)

    model = settings(differnet={"rotations": rotations})
    assert pooled_views(images(), watched, model).shape == (3, views, 27)
    assert seen == [(64, 96), (32, 64), (32, 32)] * views


def test_a_rotation_turns_the_image():
    model = settings(image_size_px=[64, 64], differnet={"rotations": 2, "scales": [1.0]})
    half = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    half[:, :, :32] = 200
    seen = []
    pooled_views(half, lambda batch: seen.append(batch) or encode(batch), model)
    assert torch.equal(seen[1], half.flip(1, 2))


def test_a_frames_score_is_the_log_of_its_latents_mean_square_and_its_map_holds_nothing_else():
    model = made(rotations=2)
    maps = model.anomaly_maps(images(), encode, model.scene_rows(["gate", "yard", "gate"]))
    assert maps.shown.shape == (3, 8, 12)
    assert maps.scored.shape == (3, 1, 1)
    vectors = pooled_views(images(), encode, model.settings)
    for frame, row in enumerate((0, 1, 0)):
        expected = model.flow(row)(vectors[frame])[0].square().mean().log()
        torch.testing.assert_close(maps.scored[frame].squeeze(), expected)
        assert (maps.shown[frame] == maps.scored[frame]).all()


def test_what_was_stored_gives_the_same_maps():
    model = made()
    model.flow(1).standardise(torch.rand(27), torch.rand(27) + 0.5)
    again = Differnet.build(model.settings, CHANNELS, ["gate", "yard"], model.state_dict())
    rows = model.scene_rows(["yard", "gate", "moon"])
    one, other = (of.anomaly_maps(images(), encode, rows) for of in (model, again))
    assert torch.equal(one.shown, other.shown)
    assert torch.equal(one.scored, other.scored)


@pytest.mark.parametrize("fault", ["missing", "shape", "type", "shuffle"])
def test_tensors_that_do_not_fit_the_settings_are_refused(fault):
    model = made(scenes=("gate",))
    tensors = dict(model.state_dict())
    if fault == "missing":
        del tensors["models.0.flow.mean"]
    elif fault == "shape":
        tensors["models.0.flow.mean"] = torch.zeros(3)
    elif fault == "type":
        tensors["models.0.flow.mean"] = tensors["models.0.flow.mean"].double()
    else:
        tensors["models.0.flow.shuffles"] = tensors["models.0.flow.shuffles"] * 0
    with pytest.raises(RuntimeError, match="shuffles: expected permutations" if fault == "shuffle" else "mean"):
        Differnet.build(model.settings, CHANNELS, ["gate"], tensors)


def test_features_that_hardly_vary_do_not_blow_up():
    model = GlowFlow(3, DiffernetSettings(**SMALL))
    model.standardise(torch.zeros(3), torch.tensor([0.0, 1.0, 2.0]))
    assert torch.isfinite(model(torch.ones(1, 3))[0]).all()


def test_a_fresh_flow_only_standardises():
    model = GlowFlow(4, DiffernetSettings(**SMALL))
    vectors = torch.randn(5, 4)
    latents, log_det = model(vectors)
    assert torch.equal(latents.sort(dim=1).values, vectors.sort(dim=1).values)
    assert not log_det.any()


@pytest.mark.parametrize("far", [1e6, 1e30, 3e38, float("inf")])
def test_what_is_unlike_all_that_was_learned_still_has_a_finite_map(far):
    scene = made(scenes=("gate",)).models[0]
    maps = scene.maps_of_features([torch.full((1, 1, 27), far)])
    assert torch.isfinite(maps.shown.half()).all()
    assert maps.scored > scene.maps_of_features([torch.zeros(1, 1, 27)]).scored
