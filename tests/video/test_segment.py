"""Times of the packets that are recorded."""

import itertools
from fractions import Fraction

import av
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.segment import PacketTimeline


def packets(*stamps):
    made = []
    for pts, dts in stamps:
        packet = av.Packet(b"x")
        packet.pts, packet.dts, packet.time_base = pts, dts, Fraction(1, 1000)
        made.append(packet)
    return made


def stamped(*stamps, fps=25.0):
    timeline = PacketTimeline(Fraction(1, 1000), fps)
    come = [s for packet in packets(*stamps) for s in timeline.push(packet)] + timeline.flush()
    return [s.pts_ms for s in come], timeline


def test_a_first_packet_without_time_comes_one_frame_before_the_others():
    assert stamped((None, None), (120, 120), (160, 160))[0] == [80, 120, 160]
    assert stamped((None, None), (120, None), (40, None), (80, 40), (240, 80))[0] == [0, 120, 40, 80, 240]


def test_a_stream_without_any_times_gets_steady_ones():
    assert stamped(*[(None, None)] * 40, fps=10.0)[0] == [100 * i for i in range(40)]


def test_a_clock_that_is_set_back_leaves_a_gap_and_time_goes_on():
    times, timeline = stamped((90_000, 90_000), (90_040, 90_040), (50, 50), (90, 90))
    assert times == [90_000, 90_040, 90_080, 90_120]
    assert timeline.gaps == 1


def test_lost_frames_are_a_gap_and_keep_their_time():
    times, timeline = stamped((0, 0), (40, 40), (4_000, 4_000))
    assert times == [0, 40, 4_000]
    assert timeline.gaps == 1


_TIME = st.none() | st.integers(-(2**40), 2**40) | st.integers(0, 300)


@given(st.lists(st.tuples(_TIME, _TIME), max_size=60))
def test_no_packet_is_lost_or_shares_a_time_whatever_the_stream_says(stamps):
    made = packets(*stamps)
    timeline = PacketTimeline(Fraction(1, 1000), 25.0)
    come = [s for packet in made for s in timeline.push(packet)] + timeline.flush()
    assert [id(s.packet) for s in come] == [id(packet) for packet in made]
    for earlier, later in itertools.pairwise([s.pts_ms for s in come]):
        assert earlier != later


@given(st.lists(st.none() | st.integers(-(2**40), 2**40) | st.integers(0, 300), max_size=60))
def test_a_stream_that_never_reorders_always_rises(times):
    times_ms, _ = stamped(*[(pts, pts) for pts in times])
    assert all(earlier < later for earlier, later in itertools.pairwise(times_ms))
