import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.sampling import PtsSampler

rates_fps = st.floats(min_value=0.2, max_value=60.0)
starts_s = st.floats(min_value=-1e4, max_value=1e6)


def kept(sampler: PtsSampler, times_s) -> list[float]:
    return [time_s for time_s in times_s if sampler.wants(time_s)]


@given(source_fps=rates_fps, sample_fps=rates_fps, start_s=starts_s, frames=st.integers(1, 600))
def test_the_long_run_rate_is_the_lower_of_the_two_rates(source_fps, sample_fps, start_s, frames):
    times_s = [start_s + i / source_fps for i in range(frames)]
    wanted = len(kept(PtsSampler(sample_fps), times_s))
    expected = frames * min(sample_fps, source_fps) / source_fps
    assert abs(wanted - expected) <= 1.5 + 1e-6 * frames  # one slot, and half a slot at the start


@given(start_s=starts_s, sample_fps=st.none() | rates_fps)
def test_the_first_frame_is_always_wanted(start_s, sample_fps):
    assert PtsSampler(sample_fps).wants(start_s)


@given(fps=st.floats(1.0, 60.0), jitters=st.lists(st.floats(-0.24, 0.24), min_size=2, max_size=200), start_s=starts_s)
def test_a_source_at_the_sampled_rate_loses_nothing_to_jitter(fps, jitters, start_s):
    # Half a slot on either side, of which the first frame's own jitter may use up one half.
    times_s = [start_s + (i + jitter) / fps for i, jitter in enumerate(jitters)]
    assert kept(PtsSampler(fps), times_s) == times_s


def test_without_a_rate_every_frame_is_wanted():
    assert kept(PtsSampler(None), [0.0, 0.0, -5.0, 3.0]) == [0.0, 0.0, -5.0, 3.0]


def test_twenty_five_frames_thinned_to_ten_are_spread_evenly():
    times_s = kept(PtsSampler(10.0), [i / 25 for i in range(250)])
    gaps_s = [b - a for a, b in itertools.pairwise(times_s)]
    assert len(times_s) in (100, 101)
    assert max(gaps_s) <= 3 / 25 + 1e-9
    assert min(gaps_s) >= 2 / 25 - 1e-9


@given(sample_fps=st.floats(0.5, 30.0), back_s=st.floats(5.0, 1e5), frames=st.integers(1, 100))
def test_a_new_session_whose_time_starts_again_is_sampled_from_its_first_frame(sample_fps, back_s, frames):
    sampler = PtsSampler(sample_fps)
    first = kept(sampler, [back_s + i / 30 for i in range(frames)])
    assert kept(sampler, [i / 30 for i in range(frames)])[:1] == [0.0]
    assert first[:1] == [back_s]


@given(sample_fps=st.floats(0.5, 30.0), ahead_s=st.floats(5.0, 1e6))
def test_one_wild_time_stamp_costs_nothing_but_itself(sample_fps, ahead_s):
    steady = [i / 30 for i in range(300)]
    plain = len(kept(PtsSampler(sample_fps), steady))
    disturbed = len(kept(PtsSampler(sample_fps), [*steady[:150], ahead_s + 5.0, *steady[150:]]))
    assert abs(disturbed - plain) <= 3


@given(sample_fps=st.floats(1.0, 20.0), data=st.data())
def test_time_stamps_that_step_back_a_little_never_raise_the_rate(sample_fps, data):
    order = data.draw(st.lists(st.integers(-3, 3), min_size=200, max_size=200))
    times_s = [(i + shift) / 30 for i, shift in enumerate(order)]
    slots = math.floor((max(times_s) - times_s[0]) * sample_fps + 0.5) + 1
    assert len(kept(PtsSampler(sample_fps), times_s)) <= slots
