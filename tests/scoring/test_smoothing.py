import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.scoring.smoothing import CausalSmoother

values = st.floats(-1e6, 1e6)
steps = st.floats(0.0, 10.0)
tracks = st.lists(st.tuples(values, steps), min_size=1, max_size=40)
taus = st.floats(0.0, 10.0)


def smooth(track, tau, session=0):
    smoother, time_s, out = CausalSmoother(tau), 0.0, []
    for value, step in track:
        time_s += step
        out.append(smoother.update(value, session, time_s))
    return out


@given(tracks, taus)
def test_smoothed_values_stay_between_the_least_and_the_greatest_seen_so_far(track, tau):
    for i, smoothed in enumerate(smooth(track, tau)):
        seen = [value for value, _ in track[: i + 1]]
        assert min(seen) <= smoothed <= max(seen)


@given(values, st.lists(steps, min_size=1, max_size=40), taus)
def test_a_constant_stays_exactly_what_it_is(value, dts, tau):
    assert smooth([(value, dt) for dt in dts], tau) == [value] * len(dts)


@given(tracks, tracks, taus)
def test_the_future_changes_nothing(track, future, tau):
    assert smooth(track + future, tau)[: len(track)] == smooth(track, tau)


@given(tracks)
def test_a_time_constant_of_zero_is_the_identity(track):
    assert smooth(track, 0.0) == [value for value, _ in track]


@given(st.integers(1, 200), st.floats(0.05, 5.0))
def test_a_step_response_does_not_depend_on_the_frame_rate(frames, tau):
    track = [(0.0, 0.0)] + [(1.0, 2.0 / frames)] * frames
    assert smooth(track, tau)[-1] == pytest.approx(1.0 - math.exp(-2.0 / tau), rel=1e-9)


def test_a_new_session_starts_anew():
    smoother = CausalSmoother(1.0)
    smoother.update(100.0, 0, 5.0)
    assert smoother.update(1.0, 1, 0.0) == 1.0


def test_no_time_passes_where_a_damaged_stream_goes_back():
    smoother = CausalSmoother(1.0)
    smoother.update(0.0, 0, 5.0)
    assert smoother.update(100.0, 0, 4.0) == 0.0
    assert smoother.update(1.0, 0, 4.0 + math.log(2.0)) == pytest.approx(0.5)
