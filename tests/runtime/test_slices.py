"""Which scorer a camera belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.slices import ScorerSlices, scorer_count
from pipeline.runtime.status import sum_counts

IDS = st.lists(st.text(min_size=1), unique=True)
SCORERS = st.integers(1, 50).map(lambda count: [f"s{number}" for number in range(count)])


@given(ids=IDS, scorers=SCORERS, data=st.data())
def test_a_camera_has_one_scorer_whatever_other_cameras_there_are_and_in_whatever_order(ids, scorers, data):
    split = ScorerSlices(scorers).split(ids, str)
    assert sorted(camera for members in split.values() for camera in members) == sorted(ids)
    assert all(members == [camera for camera in ids if camera in members] for members in split.values())
    some = data.draw(st.permutations(ids))[: len(ids) // 2]
    again = ScorerSlices(scorers).split(some, str)
    assert all(camera in split[scorer] for scorer, members in again.items() for camera in members)


def test_the_slices_of_a_number_of_scorers_never_change_for_their_stores_outlive_a_run():
    slices = ScorerSlices(["s0", "s1", "s2"])
    assert [slices.scorer_of(camera) for camera in ("gate", "yard", "cam0", "cam1", "Tür")] == [
        "s2",
        "s1",
        "s1",
        "s1",
        "s1",
    ]
    assert slices.scorer_of(None) == "s0"  # what is about the run as a whole


def test_cameras_named_by_number_spread_over_all_scorers():
    split = ScorerSlices([f"s{number}" for number in range(50)]).split([f"cam-{n:05}" for n in range(10_000)], str)
    assert 150 <= min(map(len, split.values())) <= max(map(len, split.values())) <= 250


@pytest.mark.parametrize(
    ("cameras", "wanted", "count"), [(0, None, 1), (200, None, 1), (201, None, 2), (10_000, None, 50), (1, 3, 3)]
)
def test_there_is_one_scorer_for_every_200_cameras_or_as_many_as_asked(cameras, wanted, count):
    assert scorer_count(cameras, wanted) == count


def test_counts_of_several_scorers_are_added_up_for_each_sink():
    one = {"emitted": 3, "waiting": 1, "sinks": {"webhook": {"emitted": 3, "waiting": 2}}}
    other = {"emitted": 4, "waiting": 0, "sinks": {"webhook": {"emitted": 4, "waiting": 1}}}
    assert sum_counts([one, other]) == {
        "emitted": 7, "waiting": 1, "sinks": {"webhook": {"emitted": 7, "waiting": 3}}
    }  # fmt: skip
    assert sum_counts([one]) == one
    assert sum_counts([]) == {}
