"""Our own flow without any condition: the fourth system to compare with."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from pipeline.model_settings import FlowSettings
from pipeline.models.flow import Flow
from tests.models.tiny import tiny_model


def flow(dims, **shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Flow(dims, 0, FlowSettings(**{"blocks": 2, "condition": "none", **shape}))


@pytest.mark.parametrize("dims", [2, 5])
def test_the_log_likelihood_is_that_of_autograds_jacobian(dims):
    model = flow(dims).double()
    model.whiten(torch.linspace(-1.0, 1.0, dims), torch.diag(torch.linspace(0.5, 2.0, dims)))
    vectors = torch.randn(5, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = model.log_likelihood(vectors, torch.empty(5, 0, dtype=torch.float64)).detach()
    for number, vector in enumerate(vectors):

        def latent(one):
            return model(one.unsqueeze(0), torch.empty(1, 0, dtype=torch.float64))[0][0]

        jacobian = torch.autograd.functional.jacobian(latent, vector)
        standard = multivariate_normal(np.zeros(dims)).logpdf(latent(vector).detach().numpy())
        expected = (standard + torch.linalg.slogdet(jacobian).logabsdet.item()) / dims
        assert got[number].item() == pytest.approx(expected, abs=1e-6)  # rotations are orthogonal to float32


def test_the_density_of_a_gaussian_is_learned():
    truth = multivariate_normal([1.0, -2.0], [[2.0, 1.2], [1.2, 1.5]])
    train = torch.from_numpy(truth.rvs(2000, random_state=0)).float()
    test = truth.rvs(1000, random_state=1)
    model = flow(2, blocks=2, hidden_ratio=16.0)
    model.whiten(train.mean(dim=0), torch.cov(train.T))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    none = torch.empty(2000, 0)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / 200))
        optimiser.zero_grad()
        (-model.log_likelihood(train, none).mean()).backward()
        optimiser.step()
    got = 2.0 * model.log_likelihood(torch.from_numpy(test).float(), none[:1000]).detach().numpy()
    error = got - truth.logpdf(test)
    assert abs(error).mean() < 0.1
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize("embedding", [0, 4])
def test_it_does_not_know_where_it_looks(embedding):
    _, _, flows = tiny_model(condition="none", camera_embedding=embedding)
    vectors = torch.randn(1, flows.flow(0).dims).repeat(3, 1)
    found = flows.log_likelihood(0, vectors, torch.tensor([0, 5, 50]), flows.scene_rows(["gate"] * 3))
    torch.testing.assert_close(found, found[:1].expand(3))
    assert flows.conditions(0, torch.tensor([0]), flows.scene_rows(["gate"])).shape == (1, embedding)
    maps = flows.log_likelihood_map(0, vectors[0].view(1, -1, 1, 1).expand(1, -1, 8, 12), flows.scene_rows(["gate"]))
    torch.testing.assert_close(maps, found[0].expand(1, 8, 12))
