"""Several workers fit what one would have fitted alone, whoever of them has which features."""

import copy
import errno
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.baselines.differnet import Differnet
from pipeline.baselines.padim import Moments
from pipeline.config import TrainingSettings
from pipeline.errors import DatasetError, RunError
from pipeline.training.condition_strength import foreground_likelihoods, independent_pieces
from pipeline.training.differnet import DiffernetTrainer
from pipeline.training.flow_trainer import FlowTrainer
from pipeline.training.flows import _moments
from pipeline.training.measure import measure_levels
from pipeline.training.workers import ALONE, assign
from tests.models.tiny import tiny_settings
from tests.training.footage import as_parts
from tests.training.groups import in_group
from tests.training.test_condition_strength import make_clip, make_flows

SCENES = ("gate", "yard")
CLIPS = tuple(make_clip(12, step=1.0, scene=scene, seed=seed) for scene in SCENES for seed in (1, 2, 3))
FRAMES = as_parts(*([range(10)] * len(CLIPS)))
SETTINGS = TrainingSettings(epochs=2, batch_frames=7, positions_per_frame=9, learning_rate=1e-2)


def spread(workers, clips=CLIPS):
    """The clips as one of two workers knows them: each has every other one, and both have the last."""
    known = []
    for number, clip in enumerate(clips):
        holders = (0, 1) if number == len(clips) - 1 else (number % 2,)
        levels = clip.levels if workers.rank in holders else (np.full_like(clip.levels[0], np.nan),)
        known.append(replace(clip, levels=levels, holders=holders))
    return known


@given(
    st.integers(1, 6).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.lists(st.tuples(st.floats(0.5, 9.0), st.lists(st.integers(0, count - 1), unique=True)), max_size=30),
        )
    )
)
def test_items_go_to_who_can_take_them_and_what_all_can_take_is_spread_evenly(drawn):
    count, items = drawn
    weights, holders = [weight for weight, _ in items], [ranks for _, ranks in items]
    owners = assign(weights, holders, count)
    assert all(not ranks or owner in ranks for owner, ranks in zip(owners, holders, strict=True))
    everywhere = assign(weights, [range(count)] * len(weights), count)
    loads = np.bincount(everywhere, weights, minlength=count)
    assert loads.max() - loads.min() <= max(weights, default=0.0) + 1e-9


def test_workers_tell_merge_and_collect():
    def work(workers):
        own = {workers.rank: np.full((2, workers.rank), workers.rank, np.float64)}
        every = workers.merge(own, [(2, rank) for rank in range(3)])
        picture = torch.arange(6.0).reshape(1, 2, 3) > 2.0 if workers.rank == 2 else None
        return workers.tell({"rank": workers.rank}), every, workers.collect(picture, 2), workers.any(workers.rank == 1)

    for rank, (told, every, picture, anybody) in enumerate(in_group(3, work)):
        assert told == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
        assert [part.tolist() for part in every] == [[[], []], [[1.0], [1.0]], [[2.0, 2.0]] * 2]
        assert anybody is True
        if rank == 0:
            assert picture.tolist() == [[[False, False, False], [True, True, True]]]
        else:
            assert picture is None


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (DatasetError("yard_2.mp4: expected frames, got none"), DatasetError, "yard_2.mp4: expected frames, got none"),
        (OSError(errno.ENOSPC, "No space left on device", "/f"), RunError, "/f: No space left on device"),
    ],
    ids=["bad input", "a full disk"],
)
def test_what_fails_at_one_worker_fails_at_all_in_one_line(error, kind, said):
    def fail(workers):
        with pytest.raises(kind) as caught:
            workers.together(lambda: (_ for _ in ()).throw(error) if workers.rank == 1 else 1)
        return str(caught.value)

    for line in in_group(2, fail):
        assert line.startswith(said)
        assert "\n" not in line


def steps(make, workers, clips):
    """Weights and losses after some steps."""
    fit = make(clips, workers)
    fit.agree()
    for _ in range(12):
        fit.advance()
    return {name: value.detach().clone() for name, value in fit.stored().items()}, fit.losses


@functools.cache
def flows():
    return make_flows(SCENES, embedding=3)


def of_flows(clips, workers):
    return FlowTrainer(copy.deepcopy(flows()), clips, FRAMES, SETTINGS, workers)


@functools.cache
def differnet():
    settings = tiny_settings().model_copy(update={"method": "differnet"})
    settings = settings.model_copy(update={"differnet": settings.differnet.model_copy(update={"scales": (1.0,)})})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Differnet(settings, [4], SCENES)


def of_differnet(clips, workers):
    few = SETTINGS.model_copy(update={"batch_frames": 2})  # some steps have no frame of a scene, so its flow stays
    return DiffernetTrainer(copy.deepcopy(differnet()), clips, FRAMES, few, "cpu", workers)


@pytest.mark.parametrize("make", [of_flows, of_differnet], ids=["flows", "differnet"])
def test_two_workers_take_the_steps_that_one_takes(make):
    alone, losses = steps(make, ALONE, CLIPS)
    (first, first_losses), (second, second_losses) = in_group(2, lambda workers: steps(make, workers, spread(workers)))
    assert first.keys() == second.keys() == alone.keys()
    assert all(torch.equal(first[name], second[name]) for name in alone)
    assert first_losses == second_losses
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=2e-3, atol=2e-5)
    assert first_losses == pytest.approx(losses, rel=1e-4)


def test_sums_around_other_origins_add_up_to_the_same_gaussians():
    frames = 50.0 + torch.randn(40, 6, 3, generator=torch.Generator().manual_seed(0))

    def measure(batches, workers):
        moments = Moments(6, 3)
        for batch in batches:
            moments.add(batch)
        if workers.count > 1:
            moments.add_up(workers.add)
        return moments.count, *moments.gaussians(0.01)

    alone = measure(frames.split(8), ALONE)
    parts = [frames[:8].split(4), frames[8:].split(16), ()]  # the last of three has none
    for count, mean, whitening in in_group(3, lambda workers: measure(parts[workers.rank], workers)):
        assert count == alone[0]
        torch.testing.assert_close(mean, alone[1])
        torch.testing.assert_close(whitening, alone[2])


def test_what_is_measured_over_footage_is_what_one_worker_measures():
    def measure(workers, clips):
        model = copy.deepcopy(flows()).eval()
        pieces = independent_pieces(clips, FRAMES)
        moments = _moments(clips, FRAMES, 0, workers)
        return (
            *moments,
            foreground_likelihoods(model, 0, pieces, workers),
            measure_levels(model, clips, FRAMES, workers),
        )

    mean, covariance, (likelihoods, scenes), levels = measure(ALONE, CLIPS)
    for found in in_group(2, lambda workers: measure(workers, spread(workers))):
        torch.testing.assert_close(found[0], mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[1], covariance, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[2][0], likelihoods, rtol=1e-6)
        assert found[2][1] == scenes
        assert found[3][0].mean == pytest.approx(levels[0].mean, rel=1e-6)
        assert found[3][0].std == pytest.approx(levels[0].std, rel=1e-6)
