"""Whose clock is believed: pictures may come late, in bursts and all at once, but not ever later nor ever earlier."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.video.live_clock import LiveClock

FPS = 10


def run(clock, media_s, arrived_s):
    return [clock.time_s(m, a) for m, a in zip(media_s, arrived_s, strict=True)]


def arrivals(taken_s, delays_s):
    """When pictures come that may wait, but not overtake each other."""
    return list(itertools.accumulate((t + d for t, d in zip(taken_s, delays_s, strict=False)), max))


def steady(seconds, fps=FPS):
    return [number / fps for number in range(round(seconds * fps))]


@given(delays_s=st.lists(st.floats(0.0, 2.9), min_size=1, max_size=40), start_s=st.floats(-1e5, 1e5))
def test_a_sound_clock_is_believed_to_the_last_bit_whatever_the_network_does(delays_s, start_s):
    taken_s = steady(60.0)
    clock = LiveClock()
    media_s = [start_s + t for t in taken_s]
    assert run(clock, media_s, arrivals(taken_s, itertools.cycle(delays_s))) == media_s
    assert clock.reason == ""


@pytest.mark.parametrize(
    "delay_s",
    [
        lambda t: max(8.0 - t % 30.0, 0.0),  # eight seconds at once, every half minute
        lambda t: max(8.0 - 0.4 * (t % 30.0), 0.0),  # made up for slowly
        lambda t: 10.0 - t % 10.0,  # segments of ten seconds
        lambda t: max(9.0 - 0.5 * t, 0.0),  # what a server has kept, in the beginning
        lambda t: min(0.25 * (t % 30.0), 5.5) if t % 30.0 < 25.0 else 0.0,  # a network that is too slow for a while
        lambda t: 0.004 * t,  # a clock of a cheap camera
    ],
)
def test_stalls_bursts_and_slow_beginnings_are_no_fault_of_the_clock(delay_s):
    taken_s = steady(120.0)
    clock = LiveClock()
    assert run(clock, taken_s, arrivals(taken_s, map(delay_s, taken_s))) == taken_s
    assert clock.reason == ""


@pytest.mark.parametrize("fps", [60, 240])
def test_many_pictures_that_come_at_once_after_a_stall_are_no_clock_that_stands_still(fps):
    taken_s = steady(30.0, fps)
    clock = LiveClock()
    assert run(clock, taken_s, arrivals(taken_s, (max(4.0 - t % 10.0, 0.0) for t in taken_s))) == taken_s
    assert clock.reason == ""


@given(
    rate=st.floats(0.0, 0.9) | st.floats(1.15, 100.0),
    jitter_s=st.lists(st.floats(0.0, 0.3), min_size=1, max_size=40),
)
@example(rate=0.2, jitter_s=[0.0])  # five per second that say they are 25
@example(rate=1 / 90, jitter_s=[0.0])  # milliseconds for ticks of RTP
@example(rate=90.0, jitter_s=[0.0])
def test_a_clock_that_runs_slow_or_fast_is_found_out_and_time_is_that_of_arrival_without_a_jump(rate, jitter_s):
    arrived_s = arrivals(steady(90.0), itertools.cycle(jitter_s))
    clock, found_out = LiveClock(), None
    times_s = []
    for number, came_s in enumerate(arrived_s):
        times_s.append(clock.time_s(number / FPS * rate, came_s))
        found_out = number if found_out is None and clock.reason else found_out
    assert found_out is not None
    passed_s = [later - earlier for earlier, later in itertools.pairwise(arrived_s)]
    steps_s = [later - earlier for earlier, later in itertools.pairwise(times_s)]
    assert min(steps_s) >= 0.0
    assert steps_s[found_out:] == pytest.approx(passed_s[found_out:])
    assert max(steps_s) <= max(2.0, rate / FPS) + 0.4


@pytest.mark.parametrize(("rate", "within_s"), [(0.0, 3.0), (0.2, 13.0), (0.6, 13.0), (2.0, 16.0)])
def test_the_worse_a_clock_the_sooner_it_is_found_out(rate, within_s):
    clock = LiveClock()
    run(clock, [rate * t for t in steady(within_s)], steady(within_s))
    assert clock.reason


def test_a_clock_that_is_set_once_is_believed_and_time_goes_on_as_pictures_come():
    taken_s = steady(40.0)
    for leap_s in (-1e6, -5.0, 30.0, 1e6):
        clock = LiveClock()
        media_s = [t + (leap_s if t >= 20.0 else 0.0) for t in taken_s]
        assert run(clock, media_s, taken_s) == pytest.approx(taken_s)
        assert clock.reason == ""


def test_a_clock_that_leaps_again_and_again_is_not_believed():
    clock = LiveClock()
    taken_s = steady(40.0)
    assert run(clock, [t % 3.0 for t in taken_s], taken_s) == pytest.approx(taken_s)
    assert clock.reason == "its clock leaps again and again"


def test_time_does_not_step_back_where_a_damaged_time_stamp_does():
    clock = LiveClock()
    assert run(clock, [0.0, 0.1, 0.2, 0.15, 0.4], steady(0.5)) == [0.0, 0.1, 0.2, 0.2, 0.4]


def test_a_stream_without_times_is_timed_by_arrival_from_its_first_picture():
    clock = LiveClock()
    clock.restart(has_clock=False)
    assert run(clock, [None, 0.04, 0.08, None], [100.0, 100.2, 100.2, 107.0]) == pytest.approx([0.0, 0.2, 0.2, 7.0])


def test_a_stream_that_tells_no_more_times_is_timed_by_arrival_and_said_so():
    clock = LiveClock()
    taken_s = steady(4.0)
    assert run(clock, [t if t < 1.0 else None for t in taken_s], taken_s) == pytest.approx(taken_s)
    assert clock.reason == "its stream tells no times"


def test_a_first_picture_without_a_time_of_its_own_says_nothing_of_the_clock():
    clock = LiveClock()
    assert run(clock, [None, 0.04, 0.08], [0.0, 0.04, 0.08]) == [0.0, 0.04, 0.08]


def test_what_was_found_out_holds_in_the_sessions_that_follow_and_is_said_once():
    clock = LiveClock()
    assert clock.news() == ""
    run(clock, [0.0] * 30, steady(3.0))
    assert clock.news() == "its clock stands still"
    clock.restart(has_clock=True)
    assert run(clock, [7.0, 7.0], [50.0, 50.3]) == pytest.approx([0.0, 0.3])
    assert clock.news() == ""
    clock.restart(has_clock=False)
    assert clock.news() == "its stream has no clock"
