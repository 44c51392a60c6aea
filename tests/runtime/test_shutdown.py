from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.shutdown import ShutdownDeadline


@given(st.floats(0.0, 1e6), st.lists(st.floats(0.0, 20.0), max_size=5))
def test_steps_that_take_what_they_are_given_and_more_never_go_beyond_the_deadline_together(begun_at_s, late_s):
    """Each step ends when its time is up, or is late; those after it get only what is left."""
    ending, now = ShutdownDeadline.starting_at(begun_at_s), begun_at_s
    for left_s, late in zip(
        (ending.frames_left_s, ending.detectors_left_s, ending.left_s), [*late_s, 0.0, 0.0, 0.0], strict=False
    ):
        now += left_s(now)
        assert now <= ending.ends_at_s + 1e-6
        now = min(now + late, ending.ends_at_s)
    assert ending.left_s(now) <= 1e-6


def test_the_scorer_has_time_to_come_back_when_all_before_it_took_theirs():
    ending = ShutdownDeadline.starting_at(100.0)
    now = 100.0 + ending.frames_left_s(100.0)
    now += ending.detectors_left_s(now)
    assert ending.frames_left_s(now) == ending.detectors_left_s(now) == 0.0
    assert ending.left_s(now) >= 3.0


def test_a_deadline_that_is_over_leaves_nothing():
    ending = ShutdownDeadline.starting_at(100.0)
    assert ending.left_s(200.0) == ending.frames_left_s(200.0) == ending.detectors_left_s(200.0) == 0.0
