"""The read-out of made maps, and of a checkpoint's card and tensor."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError
from pipeline.inference.engine import Engine
from pipeline.models.anomaly_model import AnomalyMaps
from pipeline.models.card import WEIGHTS_FILE, read_card, write_card
from pipeline.models.motion import speed_maps
from pipeline.models.pairs import Pairs
from pipeline.models.read_out import SPEED_SCALES, ReadOut, load_read_out, read, read_speed_scales, without_common
from pipeline.models.score import frame_scores
from tests.models.tiny import READ_OUT, SIZE_PX, tiny_checkpoint, tiny_model, tiny_speed_scales

TOP = 0.05
FRAMES = 6
PAIRED = torch.tensor([True, False, True, True, False, True])


def random_maps(count=FRAMES, size=(8, 12), seed=0):
    return torch.randn(count, *size, generator=torch.Generator().manual_seed(seed)) * 3.0


def one_map(maps):
    """Of a method that shows what it scores."""
    return AnomalyMaps(maps, maps)


def constants(**changes):
    return READ_OUT.model_copy(update=changes)


def test_each_channel_is_in_spreads_from_its_centre_and_the_higher_one_counts():
    appearance, speeds = torch.zeros(3, 4, 6), torch.zeros(3, 4, 6)
    appearance[0, 1, 1], speeds[1, 2, 2] = 20.0, 31.0
    appearance[2, 1, 1], speeds[2, 2, 2] = 20.0, 31.0
    found = read(one_map(appearance), speeds, torch.tensor([True] * 3), READ_OUT, 0.0)
    assert found.scores.tolist() == [(20.0 - 2.0) / 1.5, (31.0 - 1.0) / 0.75, (31.0 - 1.0) / 0.75]
    shown = found.shown - (0.0 - 2.0) / 1.5 - (0.0 - 1.0) / 0.75  # both of them where nothing is
    assert shown[2, 1, 1] == pytest.approx(20.0 / 1.5, abs=1e-5)
    assert shown[2, 2, 2] == pytest.approx(31.0 / 0.75, abs=1e-5)
    assert shown[2, 3, 3] == pytest.approx(0.0, abs=1e-5)


def test_a_frame_without_a_pair_is_scored_by_appearance_alone_and_shows_no_motion():
    maps, speeds = random_maps(), random_maps(seed=1).abs() * 9.0
    with_motion = read(one_map(maps), speeds, PAIRED, READ_OUT, TOP)
    alone = read(one_map(maps), None, PAIRED, READ_OUT, TOP)
    assert torch.equal(with_motion.scores == alone.scores, ~PAIRED)
    still = read(one_map(maps), torch.zeros_like(speeds), torch.full_like(PAIRED, True), READ_OUT, TOP)
    torch.testing.assert_close(with_motion.shown[~PAIRED], still.shown[~PAIRED])
    assert torch.equal(with_motion.common_surprise, alone.common_surprise)


@given(order=st.permutations(range(FRAMES)), count=st.integers(1, FRAMES), cells=st.sampled_from([(8, 12), (5, 7)]))
@settings(max_examples=20)
def test_a_frame_reads_the_same_alone_and_among_others_to_the_last_bit(order, count, cells):
    maps, speeds = random_maps(), random_maps(size=cells, seed=1).abs()
    alone = [read(one_map(maps[[n]]), speeds[[n]], PAIRED[[n]], READ_OUT, TOP) for n in range(FRAMES)]
    chosen = order[:count]
    found = read(one_map(maps[chosen]), speeds[chosen], PAIRED[chosen], READ_OUT, TOP)
    for at, number in enumerate(chosen):
        assert torch.equal(found.shown[at], alone[number].shown[0])
        assert found.scores[at] == alone[number].scores[0]
        assert found.common_surprise[at] == alone[number].common_surprise[0]


@given(constant=st.floats(-50.0, 50.0), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_what_the_whole_image_shares_counts_by_what_is_left_of_it(constant, seed):
    maps = random_maps(seed=seed)
    for share in (1.0, 0.4):
        said = constants(common_share=share)
        before, after = (read(one_map(some), None, PAIRED, said, TOP) for some in (maps, maps + constant))
        expected = before.scores + (1.0 - share) * constant / 1.5
        torch.testing.assert_close(after.scores, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after.common_surprise, before.common_surprise + constant / 0.5, rtol=1e-4, atol=1e-4)


def test_a_method_that_scores_whole_frames_counts_them_or_their_motion_and_has_nothing_in_common():
    whole, shown = torch.tensor([[[5.0]], [[5.0]], [[-1.0]]]), random_maps(3)
    speeds = torch.zeros(3, 4, 6)
    speeds[1, 0, 0] = 7.0
    found = read(AnomalyMaps(shown, whole), speeds, torch.tensor([True, True, False]), READ_OUT, 0.0)
    assert found.scores.tolist() == [(5.0 - 2.0) / 1.5, (7.0 - 1.0) / 0.75, (-1.0 - 2.0) / 1.5]
    assert found.shown.shape == shown.shape
    assert torch.equal(without_common(whole, 1.0), whole)


@pytest.mark.parametrize("grid", [(8, 12), (4, 6), (16, 24), (4, 7)])
def test_maps_may_be_on_another_grid_than_speeds(grid):
    """What is everywhere the same is so on any grid."""
    maps, speeds = torch.full((2, *grid), 4.0), torch.full((2, 8, 12), 10.0)
    found = read(one_map(maps), speeds, torch.tensor([True, False]), constants(common_share=0.0), TOP)
    assert found.shown.shape == (2, *grid)
    assert found.scores.tolist() == pytest.approx([9.0 / 0.75, 2.0 / 1.5])


@given(st.integers(0, 999))
@settings(max_examples=20)
def test_more_of_anything_is_never_less(seed):
    maps, speeds = random_maps(seed=seed), random_maps(seed=seed + 1).abs()
    more = random_maps(seed=seed + 2).abs()
    share = constants(common_share=0.0)
    before = read(one_map(maps), speeds, PAIRED, share, TOP).scores
    assert (read(one_map(maps + more), speeds, PAIRED, share, TOP).scores >= before).all()
    assert (read(one_map(maps), speeds + more, PAIRED, share, TOP).scores >= before).all()


def random_frames(count):
    random = np.random.default_rng(3)
    images = torch.from_numpy(random.integers(0, 256, (count, *SIZE_PX, 3), dtype=np.uint8))
    before = random.integers(0, 256, (count, *SIZE_PX), dtype=np.uint8)
    return images, Pairs.of(before, np.array([0.1, 0.0, 0.08][:count], np.float32))


def test_speeds_are_measured_in_what_is_usual_in_their_scene():
    card, scales = tiny_model()[0].model_copy(update={"read_out": READ_OUT}), tiny_speed_scales(2)
    read_out, maps = ReadOut(card, scales), random_maps(3)
    images, pairs = random_frames(3)
    found = read_out(one_map(maps), images, pairs, ["yard", "gate", "nobody knows"])
    speeds = speed_maps(images, pairs) / scales[[1, 0, 2]]
    expected = read(one_map(maps), speeds, pairs.gaps_s > 0.0, READ_OUT, card.model.score.top_fraction)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.shown, expected.shown)


def test_a_model_of_an_older_release_is_read_as_it_was():
    card = tiny_model()[0]
    assert card.read_out is None
    images, pairs = random_frames(3)
    shown, scored = random_maps(3), random_maps(3, seed=1)
    found = ReadOut(card, None)(AnomalyMaps(shown, scored), images, pairs, ["gate"] * 3)
    assert found.shown is shown
    assert torch.equal(found.scores, frame_scores(scored, card.model.score.top_fraction))
    assert not found.common_surprise.any()


def test_a_model_without_motion_reads_appearance_alone():
    card = tiny_model()[0].model_copy(update={"read_out": constants(motion=None)})
    images, pairs = random_frames(3)
    found = ReadOut(card, None)(one_map(random_maps(3)), images, pairs, ["gate"] * 3)
    expected = read(one_map(random_maps(3)), None, pairs.gaps_s > 0.0, READ_OUT, card.model.score.top_fraction)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.shown, expected.shown)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that sees motion."""
    made = tmp_path_factory.mktemp("read_out") / "m"
    tiny_checkpoint(made, sees_motion=True)
    return made


def test_a_checkpoint_keeps_what_speeds_are_measured_in(folder):
    assert torch.equal(read_speed_scales(folder), tiny_speed_scales(2))
    assert read_card(folder).read_out == READ_OUT
    loaded = load_read_out(folder, read_card(folder), torch.device("cpu"))
    assert torch.equal(loaded.speed_scales, tiny_speed_scales(2))


@pytest.mark.parametrize("fault", ["no tensor", "no motion", "no constants", "shape", "dtype", "zero"])
def test_a_card_and_a_tensor_that_do_not_belong_together_are_refused_in_one_line(folder, tmp_path, fault):
    card, tensors = read_card(folder), load_file(folder / WEIGHTS_FILE)
    if fault == "no tensor":
        del tensors[SPEED_SCALES]
    elif fault == "no motion":
        card = card.model_copy(update={"read_out": constants(motion=None)})
    elif fault == "no constants":
        card = card.model_copy(update={"read_out": None})
    elif fault == "shape":
        tensors[SPEED_SCALES] = tensors[SPEED_SCALES][:, :4].contiguous()
    elif fault == "dtype":
        tensors[SPEED_SCALES] = tensors[SPEED_SCALES].to(torch.int32)
    else:
        tensors[SPEED_SCALES][0, 2, 3] = 0.0
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    write_card(card, tmp_path)  # digests that fit
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS_FILE}: {SPEED_SCALES}: expected .* got ") as caught:
        Engine.load(tmp_path)
    assert "\n" not in str(caught.value)
