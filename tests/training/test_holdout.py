import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DatasetError
from pipeline.training.holdout import split_clips

footage = st.lists(st.tuples(st.sampled_from("abc"), st.integers(2, 60)), min_size=1, max_size=25)


@given(clips=footage, fraction=st.floats(0.01, 0.5))
def test_every_frame_is_in_exactly_one_part_and_every_scene_in_both(clips, fraction):
    scenes, lengths = [scene for scene, _ in clips], [length for _, length in clips]
    split = split_clips(scenes, lengths, fraction)
    for train, heldout, length in zip(split.train, split.heldout, lengths, strict=True):
        assert sorted([*train, *heldout]) == list(range(length))
    for scene in set(scenes):
        members = [number for number, name in enumerate(scenes) if name == scene]
        assert any(split.train[number] for number in members)
        assert any(split.heldout[number] for number in members)


def test_a_scene_with_many_clips_gives_whole_clips_spread_evenly():
    split = split_clips(["a"] * 16, [10] * 16, 0.1)
    whole = [number for number, frames in enumerate(split.heldout) if frames]
    assert whole == [4, 12]
    assert all(split.heldout[number] == range(10) and not split.train[number] for number in whole)


def test_a_scene_with_few_clips_gives_the_end_of_each():
    split = split_clips(["a", "a", "b"], [10, 20, 5], 0.2)
    assert split.heldout == (range(8, 10), range(16, 20), range(4, 5))
    assert split.train == (range(8), range(16), range(4))
    assert split.train_frames == 28


@pytest.mark.parametrize("lengths", [[], [10, 1], [0]])
def test_footage_that_is_too_short_to_split_is_refused(lengths):
    with pytest.raises(DatasetError, match="two frames or more"):
        split_clips(["a"] * len(lengths), lengths, 0.1)
