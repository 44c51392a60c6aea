import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from pipeline.model_settings import FlowSettings
from pipeline.models.flow import Flow, random_rotation

flow_shapes = st.fixed_dictionaries(
    {
        "dims": st.integers(2, 9),
        "blocks": st.integers(1, 5),
        "permutation": st.sampled_from(["soft", "hard"]),
        "hidden_ratio": st.sampled_from([0.5, 1.0, 2.0]),
        "whitened": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


def make_flow(dims, blocks=3, permutation="soft", hidden_ratio=2.0, whitened=True, seed=0) -> Flow:
    """A flow in float64 that does something: random weights everywhere, also in the global affine maps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = FlowSettings(blocks=blocks, permutation=permutation, hidden_ratio=hidden_ratio, condition_dims=8)
        flow = Flow(dims, 8, shape).double()
        with torch.no_grad():
            for parameter in flow.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.5 * torch.randn_like(parameter))
            for block in flow.blocks:
                # torch draws rotations in float64 and keeps float32; here they shall be exact.
                exact, _ = torch.linalg.qr(block.get_parameter("w_perm"))
                block.get_parameter("w_perm").copy_(exact)
                block.get_parameter("w_perm_inv").copy_(exact.T)
        if whitened:
            samples = torch.randn(200, dims, dtype=torch.float64) @ torch.randn(dims, dims, dtype=torch.float64)
            flow.whiten(samples.mean(dim=0) + 3.0, torch.cov(samples.T))
        return flow


def inputs(dims, count=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, dims, generator=generator, dtype=torch.float64)
    return vectors, torch.randn(count, 8, generator=generator, dtype=torch.float64)


@given(shape=flow_shapes)
@settings(max_examples=30)
def test_the_log_determinant_is_that_of_autograds_jacobian(shape):
    flow = make_flow(**shape)
    vectors, conditions = inputs(shape["dims"])
    _, log_det = flow(vectors, conditions)
    for vector, condition, got in zip(vectors, conditions, log_det, strict=True):

        def one(z, condition=condition):
            return flow(z.unsqueeze(0), condition.unsqueeze(0))[0].squeeze(0)

        jacobian = torch.autograd.functional.jacobian(one, vector)
        assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(got.detach()), abs=1e-8)


@given(shape=flow_shapes)
@settings(max_examples=30)
def test_the_inverse_gives_the_feature_vectors_back(shape):
    flow = make_flow(**shape)
    vectors, conditions = inputs(shape["dims"], count=16)
    latents, _ = flow(vectors, conditions)
    torch.testing.assert_close(flow.inverse(latents, conditions), vectors, rtol=1e-7, atol=1e-7)


@given(shape=flow_shapes)
@settings(max_examples=10)
def test_the_log_likelihood_is_per_dimension_and_follows_the_change_of_variables(shape):
    flow = make_flow(**shape)
    dims = shape["dims"]
    vectors, conditions = inputs(dims)
    latents, log_det = flow(vectors, conditions)
    normal = MultivariateNormal(torch.zeros(dims, dtype=torch.float64), torch.eye(dims, dtype=torch.float64))
    expected = (normal.log_prob(latents) + log_det) / dims
    torch.testing.assert_close(flow.log_likelihood(vectors, conditions), expected)


def test_the_density_of_a_two_dimensional_flow_integrates_to_one():
    flow = make_flow(2, whitened=False)
    with torch.no_grad():
        condition = torch.zeros(1, 8, dtype=torch.float64)
        centre = flow.inverse(torch.zeros(1, 2, dtype=torch.float64), condition)
        side = torch.linspace(-60.0, 60.0, 1201, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side) + centre
        log_density = 2.0 * flow.log_likelihood(grid, condition.expand(len(grid), 8))
    mass = float(log_density.exp().sum()) * float(side[1] - side[0]) ** 2
    assert mass == pytest.approx(1.0, abs=0.01)


def test_a_whitened_flow_that_does_nothing_more_has_a_gaussians_density():
    dims = 5
    flow = Flow(dims, 8, FlowSettings(blocks=1, condition_dims=8)).double()
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "subnet" in name:
                parameter.zero_()
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(dims, dims, generator=generator, dtype=torch.float64)
    mean, covariance = torch.arange(dims, dtype=torch.float64), root @ root.T + torch.eye(dims, dtype=torch.float64)
    flow.whiten(mean, covariance)
    vectors, conditions = inputs(dims, count=50)
    expected = MultivariateNormal(mean, covariance).log_prob(vectors) / dims
    # The global affine map starts at 1 and rotations are kept in float32.
    torch.testing.assert_close(flow.log_likelihood(vectors, conditions), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("covariance", [torch.zeros(3, 3), torch.diag(torch.tensor([1.0, 1e-9, 0.0]))])
def test_channels_that_never_vary_leave_the_likelihood_finite(covariance):
    flow = Flow(3, 8, FlowSettings(blocks=1, condition_dims=8))
    flow.whiten(torch.ones(3), covariance)
    assert torch.isfinite(flow.log_likelihood(torch.ones(2, 3), torch.zeros(2, 8))).all()


def test_the_condition_matters():
    flow = make_flow(6)
    vectors, conditions = inputs(6)
    other = flow.log_likelihood(vectors, conditions + 1.0)
    assert not torch.allclose(flow.log_likelihood(vectors, conditions), other)


@given(dims=st.integers(2, 20), seed=st.integers(0, 50))
def test_a_soft_permutation_is_a_rotation(dims, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rotation = random_rotation(dims).double()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(dims, dtype=torch.float64), atol=1e-5, rtol=0)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-4)


def test_rotations_are_spread_evenly_over_all_directions():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        entries = torch.stack([random_rotation(4) for _ in range(2000)])
    assert entries.mean(dim=0).abs().max() < 0.06  # QR alone would favour one sign
    assert (entries.square().mean(dim=0) - 0.25).abs().max() < 0.03


def test_a_permutation_is_stored_once_and_its_transpose_rebuilt():
    flow, other = make_flow(5, seed=3), make_flow(5, seed=4)
    stored = flow.stored()
    assert not [name for name in stored if name.endswith("w_perm_inv")]
    other.load_stored(stored)
    vectors, conditions = inputs(5)
    assert torch.equal(other.log_likelihood(vectors, conditions), flow.log_likelihood(vectors, conditions))
    latents, _ = other(vectors, conditions)
    torch.testing.assert_close(other.inverse(latents, conditions), vectors)


def test_tensors_of_another_shape_are_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_flow(5).load_stored(make_flow(6).stored())


def test_building_a_flow_leaves_numpys_random_state_to_others():
    # FrEIA draws from it: what matters is that our draws come from torch's generator alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first = Flow(6, 8, FlowSettings(condition_dims=8))
        torch.manual_seed(7)
        second = Flow(6, 8, FlowSettings(condition_dims=8))
    assert all(torch.equal(a, second.state_dict()[name]) for name, a in first.state_dict().items())


def test_a_standard_normals_log_likelihood_per_dimension_is_known():
    assert -0.5 * math.log(2 * math.pi) == pytest.approx(-0.9189385, abs=1e-6)
    flow = Flow(4, 8, FlowSettings(blocks=1, condition_dims=8))
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "subnet" in name:
                parameter.zero_()
    got = flow.log_likelihood(torch.zeros(1, 4), torch.zeros(1, 8))
    assert float(got.detach()) == pytest.approx(-0.9189385, abs=1e-5)


@given(shape=flow_shapes, strength=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(max_examples=20)
def test_a_flow_whose_conditions_are_scaled_is_the_one_that_is_given_scaled_conditions(shape, strength):
    flow = make_flow(**shape)
    vectors, conditions = inputs(shape["dims"])
    expected = flow.log_likelihood(vectors, strength * conditions)
    flow.scale_conditions(strength)
    torch.testing.assert_close(flow.log_likelihood(vectors, conditions), expected, rtol=1e-7, atol=1e-7)


@given(shape=flow_shapes)
@settings(max_examples=20)
def test_a_rounded_flow_still_knows_its_log_determinant_and_its_inverse(shape):
    flow = make_flow(**shape)
    flow.round_weights()
    vectors, conditions = inputs(shape["dims"])
    latents, log_det = flow(vectors, conditions)
    for vector, condition, got in zip(vectors, conditions, log_det, strict=True):

        def one(z, condition=condition):
            return flow(z.unsqueeze(0), condition.unsqueeze(0))[0].squeeze(0)

        jacobian = torch.autograd.functional.jacobian(one, vector)
        assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(got.detach()), abs=1e-8)
    torch.testing.assert_close(flow.inverse(latents, conditions), vectors, rtol=1e-6, atol=1e-6)


def test_rounding_changes_likelihoods_by_next_to_nothing_and_once():
    flow = make_flow(6, blocks=4)
    vectors, conditions = inputs(6, count=16)
    before = flow.log_likelihood(vectors, conditions)
    flow.round_weights()
    after = flow.log_likelihood(vectors, conditions)
    torch.testing.assert_close(after, before, rtol=0.05, atol=0.05)
    flow.round_weights()
    assert torch.equal(flow.log_likelihood(vectors, conditions), after)
