"""Times of the packets that are recorded."""

import itertools
from fractions import Fraction

import av
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.live_clock import LiveClock
from pipeline.video.packet_timeline import PacketTimeline


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


def by_clock(stamps, arrived_s, clock=None):
    timeline = PacketTimeline(Fraction(1, 1000), 25.0, clock=clock or LiveClock())
    made = packets(*stamps)
    come = [s for packet, at_s in zip(made, arrived_s, strict=True) for s in timeline.push(packet, at_s)]
    come += timeline.flush()
    assert [id(s.packet) for s in come] == [id(packet) for packet in made]
    return [s.pts_ms for s in come], timeline


def test_a_sound_clock_keeps_its_times_to_the_millisecond():
    stamps = [(40 * number + 7, 40 * number + 7) for number in range(2_000)]
    times, timeline = by_clock(stamps, [0.04 * number + 0.5 * (number % 3) for number in range(2_000)])
    assert times == [pts for pts, _ in stamps]
    assert timeline.gaps == 0


def test_packets_without_a_clock_are_recorded_with_the_times_of_their_arrival():
    clock = LiveClock()
    clock.restart(has_clock=False)
    assert by_clock([(None, None)] * 4, [50.0, 50.2, 50.2, 51.0], clock)[0] == [0, 200, 201, 1000]


def test_a_clock_that_runs_slow_is_recorded_by_arrival_from_where_it_is_found_out_on():
    stamps = [(40 * number, 40 * number) for number in range(200)]
    times, _ = by_clock(stamps, [0.2 * number for number in range(200)])
    assert times[:2] == [0, 40]
    assert {later - earlier for earlier, later in itertools.pairwise(times[100:])} == {200}


def test_a_leap_forward_that_no_time_has_passed_for_is_taken_out_of_the_recording():
    stamps = [(40 * number + 30_000 * (number >= 10), None) for number in range(20)]
    times, timeline = by_clock(stamps, [0.04 * number for number in range(20)])
    assert times == [40 * number for number in range(20)]
    assert timeline.gaps == 1


def test_pictures_that_are_shown_in_another_order_than_sent_stay_in_that_order_by_arrival():
    """I P B B, whose clock has been found out before."""
    clock = LiveClock()
    for number in range(40):
        clock.time_s(0.0, 0.1 * number)
    assert clock.reason
    clock.restart(has_clock=True)
    shown = [group + place for group in range(0, 80, 4) for place in (0, 3, 1, 2)]
    times, _ = by_clock([(40 * place, None) for place in shown], [0.2 * number for number in range(80)], clock)
    assert times == [200 * place for place in shown]


def test_where_pictures_change_places_arrival_says_the_time_from_a_keyframe_on():
    """I P B B, at a tenth of the speed that their times say; the clock is found out before the 40th, a keyframe."""
    shown = [group + place for group in range(0, 200, 4) for place in (0, 3, 1, 2)]
    timeline, come = PacketTimeline(Fraction(1, 1000), 25.0, clock=LiveClock()), []
    for number, packet in enumerate(packets(*[(40 * place, None) for place in shown])):
        packet.is_keyframe = number % 40 == 0
        come += timeline.push(packet, 0.4 * number)
    times = [s.pts_ms for s in come + timeline.flush()]
    in_order = [time for _, time in sorted(zip(shown, times, strict=True))]
    steps = [later - earlier for earlier, later in itertools.pairwise(in_order)]
    assert steps == [40] * 39 + steps[39:40] + [400] * 159 or steps == [40] * 79 + steps[79:80] + [400] * 119
    assert min(steps) > 0


@given(st.lists(st.tuples(_TIME, _TIME, st.floats(0.0, 3.0)), max_size=80), st.booleans())
def test_no_packet_is_lost_or_shares_a_time_whatever_the_clock_does(come, has_clock):
    clock = LiveClock()
    clock.restart(has_clock=has_clock)
    arrived_s = list(itertools.accumulate(passed_s for *_, passed_s in come))
    times, _ = by_clock([stamp for *stamp, _ in come], arrived_s, clock)
    assert all(earlier != later for earlier, later in itertools.pairwise(times))
