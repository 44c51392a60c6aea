"""How much of the condition held-out footage supports: chosen by rule, and true of the flows that come of it."""

import functools

import numpy as np
import pytest
import torch

from pipeline.config import TrainingSettings
from pipeline.datasets.base import Clip
from pipeline.inference.fused import FusedFlow
from pipeline.model_settings import EncoderSettings, FlowSettings, ModelSettings
from pipeline.models.cflow import CFlow
from pipeline.training.condition_strength import (
    STRENGTHS,
    choose_strengths,
    draw_strengths,
    foreground_likelihoods,
    independent_pieces,
    supported_strength,
)
from pipeline.training.features import ClipFeatures
from pipeline.training.flow_trainer import FlowTrainer
from tests.training.footage import as_parts

DIMS, ROWS, COLUMNS, FPS = 4, 4, 6, 2.0
MINUTE = int(60 * FPS)


def make_clip(frames: int, *, step: float = 0.0, base: float = 0.0, scene: str = "gate", seed: int = 0):
    """Features of one level: noise around ``base``, lower by ``step`` on the left and higher on the right."""
    random = np.random.default_rng(seed)
    sides = np.tile(np.where(np.arange(COLUMNS) < COLUMNS / 2, -1.0, 1.0), ROWS)
    values = base + step * sides[:, np.newaxis] + random.normal(size=(frames, ROWS * COLUMNS, DIMS))
    clip = Clip(f"{scene}{seed}", scene, f"{scene}{seed}.mp4", frames)
    nothing, gaps_s = np.zeros((0, 1, 1), np.float32), np.zeros(frames, np.float32)
    still = np.zeros((frames, 1, 1), np.float16)
    return ClipFeatures(clip, FPS, (values.astype(np.float16),), (), nothing, gaps_s, still)


def make_flows(scenes=("gate",), condition="adaptive", embedding=0, **shape) -> CFlow:
    flow = {"blocks": 2, "condition_dims": 16, "camera_embedding": embedding, "condition": condition, **shape}
    model = ModelSettings(
        image_size_px=(8 * ROWS, 8 * COLUMNS), encoder=EncoderSettings(strides=(8,)), flow=FlowSettings(**flow)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CFlow(model, [DIMS], scenes)


def fitted(clips, steps=80, **settings) -> CFlow:
    flows = make_flows(sorted({clip.clip.scene for clip in clips}), **settings)
    vectors = torch.from_numpy(np.concatenate([clip.levels[0].reshape(-1, DIMS) for clip in clips])).double()
    flows.flow(0).whiten(vectors.mean(dim=0), torch.cov(vectors.T))
    frames = as_parts(*(range(len(clip)) for clip in clips))
    learning = {"batch_frames": 32, "positions_per_frame": ROWS * COLUMNS, "learning_rate": 0.05}
    fit = FlowTrainer(flows, clips, frames, TrainingSettings(epochs=steps * 32 // sum(map(len, frames)), **learning))
    while fit.step < fit.total_steps:
        fit.advance()
    return flows


@functools.cache
def of_a_place(step):
    """Flows fitted to one clip."""
    return fitted([make_clip(128, step=step)])


def held_out(*clips):
    return clips, as_parts(*(range(len(clip)) for clip in clips))


@pytest.mark.parametrize(
    ("trained", "unseen", "supported"),
    [(2.0, 2.0, True), (2.0, -2.0, False), (0.0, 0.0, False)],
    ids=["where places differ", "where they change places", "where they are alike"],
)
def test_the_condition_gets_what_held_out_footage_supports(trained, unseen, supported):
    flows = of_a_place(trained)
    (strength,) = choose_strengths(flows, *held_out(*(make_clip(20, step=unseen, seed=s) for s in (1, 2, 3)))).values()
    assert (strength > 0) == supported


def test_one_piece_says_nothing_and_the_minutes_of_a_longer_one_do():
    flows, clip = of_a_place(2.0), make_clip(3 * MINUTE, step=2.0, seed=1)
    assert choose_strengths(flows, [clip], as_parts(range(MINUTE, 2 * MINUTE))) == {"stride 8": 0.0}
    assert choose_strengths(flows, [clip], as_parts(range(3 * MINUTE)))["stride 8"] > 0


def test_the_condition_that_tells_cameras_apart_stays():
    clips = [make_clip(64, base=base, scene=scene) for base, scene in ((-4.0, "gate"), (4.0, "yard"))]
    flows = fitted(clips, embedding=4)
    unseen = [
        make_clip(20, base=base, scene=scene, seed=seed)
        for base, scene in ((-4.0, "gate"), (4.0, "yard"))
        for seed in (1, 2)
    ]
    pieces = independent_pieces(*held_out(*unseen))
    likelihoods, scenes = foreground_likelihoods(flows, 0, pieces)
    assert scenes == ["gate", "gate", "yard", "yard"]
    assert likelihoods[-1].mean() > likelihoods[0].mean() + 0.05
    assert choose_strengths(flows, *held_out(*unseen))["stride 8"] > 0
    assert choose_strengths(flows, *held_out(unseen[0], unseen[2])) == {"stride 8": 1.0}  # one piece each: unknown


@pytest.mark.parametrize("condition", ["position", "none"])
def test_other_conditions_are_not_chosen_and_draw_nothing(condition):
    clips = [make_clip(8, step=1.0)]
    flows = make_flows(condition=condition)
    fit = FlowTrainer(flows, clips, as_parts(range(8)), TrainingSettings(batch_frames=8, positions_per_frame=5))
    random, expected = (np.random.default_rng(3) for _ in range(2))
    fit._backward(np.arange(8), np.ones(8, bool), random)
    for _ in range(8):
        expected.permutation(ROWS * COLUMNS)  # the positions of each frame, and that is all
    assert random.random() == expected.random()
    assert choose_strengths(flows, *held_out(*clips)) == {}


def test_strengths_are_drawn_for_frames_of_a_step_a_quarter_none_a_quarter_whole():
    drawn = draw_strengths(4000, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert np.mean(drawn == 0.0) == pytest.approx(0.25, abs=0.03)
    assert np.mean(drawn == 1.0) == pytest.approx(0.25, abs=0.03)
    between = drawn[(drawn > 0) & (drawn < 1)]
    assert np.quantile(between, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.04)
    assert np.array_equal(draw_strengths(9, np.random.default_rng(5)), draw_strengths(9, np.random.default_rng(5)))


def test_a_step_learns_from_conditions_of_the_strength_that_was_drawn():
    clips = [make_clip(6, step=1.0)]
    flows = make_flows()
    fit = FlowTrainer(
        flows, clips, as_parts(range(6)), TrainingSettings(batch_frames=6, positions_per_frame=ROWS * COLUMNS)
    )
    chosen, whole = np.arange(6), torch.arange(ROWS * COLUMNS).repeat(6)
    strengths = np.linspace(0, 1, 6, dtype=np.float32)
    everywhere = [np.arange(ROWS * COLUMNS)] * 6
    found = fit._log_likelihood(0, chosen, np.zeros(6, np.int64), strengths, everywhere)
    conditions = flows.conditions(0, whole, torch.zeros(len(whole), dtype=torch.int64))
    scaled = torch.from_numpy(np.repeat(strengths, ROWS * COLUMNS))[:, None] * conditions
    vectors = torch.from_numpy(clips[0].levels[0].reshape(-1, DIMS)).float()
    torch.testing.assert_close(found, flows.flow(0).log_likelihood(vectors, scaled))


@pytest.mark.parametrize("permutation", ["soft", "hard"])
@pytest.mark.parametrize("embedding", [0, 3])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_flows_that_run_fused_have_the_strength_in_them(permutation, embedding, strength):
    flows = make_flows(("gate", "yard"), embedding=embedding, permutation=permutation).double().requires_grad_(False)
    positions = torch.arange(ROWS * COLUMNS)
    rows = flows.scene_rows(["yard"]).expand(len(positions))
    vectors = torch.randn(len(positions), DIMS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow = flows.flow(0)
    expected = flow.log_likelihood(vectors, strength * flows.conditions(0, positions, rows))
    flow.scale_conditions(strength)
    cameras = None if flows.embedding is None else flows.embedding.table()
    fused = FusedFlow(flow, (ROWS, COLUMNS), flows.get_buffer("positions_0"), cameras, torch.float64)
    features = vectors.T.reshape(1, DIMS, ROWS, COLUMNS)
    torch.testing.assert_close(
        fused(features, rows[:1]).flatten(), expected, rtol=1e-6, atol=1e-6
    )  # rotations are float32
    if strength == 0:
        same = vectors[:1].expand(len(positions), DIMS)
        everywhere = flows.log_likelihood(0, same, positions, rows)
        assert torch.equal(everywhere, everywhere[:1].expand(len(positions)))


def test_pieces_are_clips_and_minutes_of_longer_ones():
    clips = [make_clip(10), make_clip(10 * MINUTE), make_clip(5)]
    pieces = independent_pieces(clips, as_parts(range(3, 9), range(MINUTE, 3 * MINUTE + 50), range(0)))
    assert [piece.clip for piece in pieces] == [clips[0], clips[1], clips[1]]
    assert [(piece.frames[0], piece.frames[-1]) for piece in pieces] == [
        (3, 8),
        (MINUTE, 2 * MINUTE + 24),
        (2 * MINUTE + 25, 3 * MINUTE + 49),
    ]
    long = make_clip(1)
    many = independent_pieces([long], as_parts(range(100 * MINUTE)))
    assert len(many) == 100
    assert {len(piece.frames) for piece in many} == {6}  # 512 of 12,000
    assert all(np.all(np.diff(piece.frames) > 0) for piece in many)


@pytest.mark.parametrize(
    ("of_pieces", "scenes", "one", "cameras"),
    [
        ([[1, 1.2], [2, 2.2], [3, 3.2], [3, 3.2]], "aa", 0.5, 0.5),  # the error is .1
        ([[1, 1.2], [2, 2.2], [2.95, 3.15], [3, 3.2]], "aa", 0.5, 0.5),
        ([[1, 1.2], [2, 2.2], [2.85, 3.05], [3, 3.2]], "aa", 1.0, 1.0),
        ([[3, 9], [2, 8], [2, 8], [2, 8]], "aa", 0.0, 0.25),
        ([[3, 3.2], [2.5, 2.7], [1, 1.2], [0, 0.2]], "aa", 0.0, 0.25),  # cameras are to be told apart
        ([[1, 1.2, 51, 51.2], [2, 2.2, 52, 52.2], [2, 2.2, 52, 52.2], [2, 2.2, 52, 52.2]], "aabb", 0.25, 0.25),
        ([[1], [2], [3], [4]], "a", 0.0, 1.0),
        ([[1, 9, 9], [2, 9, 9], [3, 9, 9], [4, 9, 9]], "abb", 0.0, 1.0),  # two of a scene on average
        ([[], [], [], []], "", 0.0, 1.0),
        ([[np.nan, 1], [2, 2], [3, 3], [4, 4]], "aa", 0.0, 1.0),
    ],
)
def test_the_smallest_strength_within_one_standard_error_of_the_best_is_enough(of_pieces, scenes, one, cameras):
    likelihoods = np.asarray(of_pieces, dtype=float)
    for tells_cameras, expected in ((False, one), (True, cameras)):
        assert supported_strength(likelihoods, list(scenes), tells_cameras=tells_cameras) == expected
