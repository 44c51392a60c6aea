"""The rewritten flow against FrEIA's own, which knows nothing of the rewriting."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.inference.fused import FusedFlow
from pipeline.model_settings import FlowSettings
from pipeline.models.condition import position_encoding
from pipeline.models.flow import Flow

HEIGHT, WIDTH, FRAMES = 3, 4, 3
CAMERAS = 4

shapes = st.fixed_dictionaries(
    {
        "dims": st.integers(2, 21),
        "blocks": st.integers(1, 12),
        "permutation": st.sampled_from(["soft", "hard"]),
        "hidden_ratio": st.sampled_from([0.5, 1.0, 2.0]),
        "position_dims": st.sampled_from([0, 4, 16]),
        "camera_dims": st.sampled_from([0, 3]),
        "seed": st.integers(0, 99),
    }
)


def made(dims, blocks, permutation, hidden_ratio, position_dims, camera_dims, seed):
    """A flow in float64 with random values everywhere, also in its global affine maps and its whitening; its tables."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = FlowSettings(blocks=blocks, permutation=permutation, hidden_ratio=hidden_ratio)
        flow = Flow(dims, position_dims + camera_dims, shape).double()
        for parameter in flow.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.2 * torch.randn_like(parameter))
        for block in flow.blocks:
            exact, _ = torch.linalg.qr(block.get_parameter("w_perm"))  # drawn in float64, kept in float32
            if permutation == "soft":
                block.get_parameter("w_perm").data.copy_(exact)
        samples = torch.randn(200, dims).double() @ torch.randn(dims, dims).double()
        flow.whiten(samples.mean(dim=0) + 3.0, torch.cov(samples.T))
        positions = position_encoding(position_dims, HEIGHT, WIDTH).double() if position_dims else None
        cameras = torch.randn(CAMERAS, camera_dims).double() if camera_dims else None
        features = (samples.std(dim=0)[:, None, None] * torch.randn(FRAMES, dims, HEIGHT, WIDTH).double()) + 3.0
        rows = torch.randint(CAMERAS, (FRAMES,)) if camera_dims else torch.zeros(FRAMES, dtype=torch.int64)
    return flow.requires_grad_(False), positions, cameras, features, rows


def by_freia(flow, positions, cameras, features, rows):
    """Log-likelihood maps as the training code computes them: one condition vector per feature vector."""
    area = HEIGHT * WIDTH
    parts = [torch.zeros(FRAMES * area, 0, dtype=features.dtype)]
    if positions is not None:
        parts.append(positions.to(features.dtype).repeat(FRAMES, 1))
    if cameras is not None:
        parts.append(cameras.to(features.dtype)[rows].repeat_interleave(area, dim=0))
    vectors = features.permute(0, 2, 3, 1).reshape(FRAMES * area, -1)
    return flow.log_likelihood(vectors, torch.cat(parts, dim=1)).view(FRAMES, HEIGHT, WIDTH)


@given(shape=shapes)
@settings(max_examples=60)
def test_the_rewritten_flow_gives_freias_log_likelihoods_in_float64(shape):
    flow, positions, cameras, features, rows = made(**shape)
    fused = FusedFlow(flow, (HEIGHT, WIDTH), positions, cameras, torch.float64)
    expected = by_freia(flow, positions, cameras, features, rows)
    torch.testing.assert_close(fused(features, rows), expected, rtol=1e-10, atol=1e-10)


@given(shape=shapes)
@settings(max_examples=40)
def test_float32_rounds_no_worse_than_freia_does(shape):
    flow, positions, cameras, features, rows = made(**shape)
    exact = by_freia(flow, positions, cameras, features, rows)
    fused = FusedFlow(flow, (HEIGHT, WIDTH), positions, cameras)
    got = fused(features.float(), rows)
    assert got.dtype == torch.float32
    theirs = by_freia(flow.float(), positions, cameras, features.float(), rows)
    # Random flows of twelve blocks may be chaotic: then FrEIA's own rounding is the yardstick.
    allowed = 1e-5 * (1.0 + exact.abs()) + 5.0 * (theirs - exact).abs().max()
    assert ((got - exact).abs() <= allowed).all()


def test_bfloat16_comes_close_on_a_flow_as_training_leaves_it():
    shape = {"blocks": 8, "permutation": "soft", "hidden_ratio": 2.0, "position_dims": 128, "camera_dims": 0}
    flow, positions, _, features, rows = made(32, seed=3, **shape)
    for block in flow.blocks:  # trained coefficients are small: a block changes its channels by some percent
        for name in ("0.weight", "2.weight", "0.bias", "2.bias"):
            block.get_submodule("subnet").get_parameter(name).mul_(0.3)
    exact = by_freia(flow, positions, None, features, rows)
    got = FusedFlow(flow, (HEIGHT, WIDTH), positions, None, torch.bfloat16)(features.float(), rows)
    assert got.dtype == torch.float32
    assert float((got - exact).abs().mean()) < 0.01 * float(exact.std() + exact.abs().mean())


def test_features_in_any_memory_order_give_the_same():
    flow, positions, cameras, features, rows = made(6, 3, "soft", 1.0, 4, 3, 0)
    fused = FusedFlow(flow, (HEIGHT, WIDTH), positions, cameras, torch.float64)
    last = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(fused(features, rows), fused(last, rows))


def test_the_flow_it_was_made_of_stays_as_it_was():
    flow, positions, cameras, features, rows = made(6, 3, "soft", 1.0, 4, 3, 0)
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    FusedFlow(flow, (HEIGHT, WIDTH), positions, cameras)(features.float(), rows)
    assert all(torch.equal(tensor, before[name]) for name, tensor in flow.state_dict().items())


@pytest.mark.parametrize("permutation", ["soft", "hard"])
def test_the_tables_of_conditions_are_small_and_the_last_permutation_is_left_out(permutation):
    flow, positions, cameras, _, _ = made(6, 4, permutation, 1.0, 16, 3, 0)
    fused = FusedFlow(flow, (HEIGHT, WIDTH), positions, cameras)
    hidden = 3 + 16 + 3
    shapes_of = {name: tuple(buffer.shape) for name, buffer in fused.named_buffers()}
    assert shapes_of["blocks.0.columns"] == (WIDTH, hidden)
    assert shapes_of["blocks.0.rows"] == (HEIGHT, hidden)
    assert shapes_of["blocks.0.cameras"] == (CAMERAS, hidden)
    matrices = [name for name in shapes_of if name.endswith(".mix")]
    orders = [name for name in shapes_of if name.endswith(".order")]
    assert (len(matrices), len(orders)) == ((3, 0) if permutation == "soft" else (0, 3))
