import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DatasetError
from pipeline.training.holdout import BLOCK_S, FOLDS, GAP_S, Part, count_frames, cross_splits, split_clips


def clips(least):
    return st.lists(st.tuples(st.sampled_from("abc"), st.integers(least, 900)), min_size=1, max_size=12)


rates = st.sampled_from([0.5, 2.0, 10.0, 25.0])


def marked(parts, lengths):
    """How often each frame is in some parts, clip by clip."""
    counts = [np.zeros(length, int) for length in lengths]
    for clip, frames in parts:
        counts[clip][frames.start : frames.stop] += 1
    return counts


def described(footage, fps):
    return [scene for scene, _ in footage], [length for _, length in footage], [fps] * len(footage)


def least_distance(part, others):
    """Frames between a part and the nearest of others in its clip."""
    return min(
        (
            max(frames.start - part.frames.stop, part.frames.start - frames.stop)
            for clip, frames in others
            if clip == part.clip
        ),
        default=10**9,
    )


@given(footage=clips(2), fps=rates, fraction=st.floats(0.01, 0.5))
def test_no_frame_is_in_both_parts_and_every_scene_is_in_both(footage, fps, fraction):
    scenes, lengths, fps_of = described(footage, fps)
    split = split_clips(scenes, lengths, fps_of, fraction)
    counts = marked([*split.train, *split.heldout], lengths)
    assert max(count.max() for count in counts) == 1
    for scene in set(scenes):
        for parts in (split.train, split.heldout):
            assert any(scenes[part.clip] == scene for part in parts)


@given(length=st.integers(2, 50_000), fps=rates, fraction=st.floats(0.01, 0.5))
def test_blocks_of_one_clip_keep_their_gaps_have_the_fraction_and_are_spread_over_all_of_it(length, fps, fraction):
    split = split_clips(["a"], [length], [fps], fraction)
    held = split.heldout
    assert count_frames(held) == pytest.approx(fraction * length, abs=len(held))
    block = min(len(frames) for _, frames in held)
    wanted = min(int(GAP_S * fps), max(0, block - 1) // 4)
    assert all(least_distance(part, split.train) >= wanted for part in held)
    gone = length - count_frames(held) - split.train_frames
    assert gone <= max(len(frames) for _, frames in held) * len(held) / 2  # a quarter of a block at either end
    middles = [(frames.start + frames.stop) / 2 / length for _, frames in held]
    assert middles == pytest.approx([(turn + 0.5) / len(held) for turn in range(len(held))], abs=2 / length + 0.01)


def test_an_hour_gives_blocks_of_twenty_seconds_and_a_day_longer_ones():
    hour = split_clips(["a"], [3600], [1.0], 0.1).heldout
    assert [len(frames) for _, frames in hour] == [BLOCK_S] * 18
    day = split_clips(["a"], [24 * 3600], [1.0], 0.1)
    assert [len(frames) for _, frames in day.heldout] == [360] * 24
    assert 24 * 3600 - day.train_frames - count_frames(day.heldout) == 24 * 2 * GAP_S


def test_long_files_are_held_out_as_one_file_would_be():
    whole = split_clips(["a"], [36_000], [10.0], 0.1).heldout
    parts = split_clips(["a"] * 6, [6000] * 6, [10.0] * 6, 0.1).heldout
    assert [6000 * clip + frames.start for clip, frames in parts] == [frames.start for _, frames in whole]


def test_a_scene_with_many_short_clips_gives_whole_ones_spread_evenly():
    split = split_clips(["a"] * 16, [10] * 16, [10.0] * 16, 0.1)
    assert split.heldout == (Part(4, range(10)), Part(12, range(10)))
    assert {part.clip for part in split.train} == set(range(16)) - {4, 12}


@pytest.mark.parametrize("long", range(4))
def test_one_long_clip_among_short_ones_is_neither_held_out_whole_nor_not_at_all(long):
    lengths = [30_000 if number == long else 100 for number in range(4)]
    footage = ["a"] * 4, lengths, [10.0] * 4
    assert count_frames(split_clips(*footage, 0.1).heldout) == pytest.approx(3030, abs=20)
    for split in cross_splits(*footage):
        assert count_frames(split.heldout) == pytest.approx(30_300 / FOLDS, rel=0.1)


@given(footage=clips(2 * FOLDS), fps=rates)
def test_crosswise_every_frame_is_held_out_once_and_not_learned_by_who_is_measured_on_it(footage, fps):
    scenes, lengths, fps_of = described(footage, fps)
    splits = cross_splits(scenes, lengths, fps_of)
    assert all((count == 1).all() for count in marked([part for split in splits for part in split.heldout], lengths))
    for split in splits:
        assert max(count.max() for count in marked([*split.train, *split.heldout], lengths)) == 1
        for scene in set(scenes):
            for parts in (split.train, split.heldout):
                assert any(scenes[part.clip] == scene for part in parts)


def test_crosswise_parts_take_turns_over_the_footage_with_gaps_between():
    first, second, third = cross_splits(["a"], [1800], [10.0])  # three minutes
    assert first.heldout == (Part(0, range(0, 200)), Part(0, range(600, 800)), Part(0, range(1200, 1400)))
    assert [split.heldout[0].frames.start for split in (second, third)] == [200, 400]
    assert first.train == (Part(0, range(250, 550)), Part(0, range(850, 1150)), Part(0, range(1450, 1800)))


@pytest.mark.parametrize("lengths", [[], [10, 1], [0]])
def test_footage_that_is_too_short_to_split_is_refused(lengths):
    for split in (lambda *footage: split_clips(*footage, 0.1), cross_splits):
        with pytest.raises(DatasetError, match="two frames or more"):
            split(["a"] * len(lengths), lengths, [10.0] * len(lengths))
