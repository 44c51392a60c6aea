"""What a ring keeps of a camera: as much as is asked for, within its bytes, from a keyframe on."""

import av
import pytest

from pipeline.evidence.packet_ring import PacketRing
from tests.evidence.made import Clock, filled
from tests.videos import write_video


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("ring") / "camera.mp4", 200, b_frames=2)


def test_it_reaches_as_far_back_as_it_is_to_and_to_the_keyframe_before(footage):
    ring, times = filled(footage, reach_s=2.0, fps=25)
    begins_s = ring.cut(0, times[0]).packets[0][1].media_s
    assert times[199] - 2.0 - 0.4 - 0.12 <= begins_s <= times[199] - 2.0
    assert ring.cut(0, times[199] - 1.8).reaches_back
    early = ring.cut(0, times[100])
    assert (early.reaches_back, early.packets[0][1].is_keyframe) == (False, True)


def test_its_bytes_are_bounded_and_what_it_keeps_still_begins_with_a_keyframe(footage):
    whole, times = filled(footage)
    bounded, _ = filled(footage, most_bytes=whole.size // 4)
    assert bounded.size <= whole.size // 4
    cut = bounded.cut(0, times[199] - 0.1)
    assert (cut.reaches_back, cut.packets[0][1].is_keyframe) == (True, True)
    assert not bounded.cut(0, times[50]).reaches_back
    none_fits, _ = filled(footage, most_bytes=1000)
    assert (none_fits.size <= 1000, none_fits.cut(0, times[199]).packets) == (True, [])


def test_what_came_later_is_asked_for_by_the_last_packet_that_is_known(footage):
    ring, times = filled(footage)
    cut = ring.cut(0, times[100])
    known = cut.packets[:40]
    later = ring.after(0, known[-1][1].order)
    assert (known + later.packets, later.reaches_back) == (cut.packets, True)
    assert ring.after(0, cut.packets[-1][1].order).packets == []
    short, _ = filled(footage, reach_s=1.0, fps=25)
    assert not short.after(0, 10).reaches_back


def test_sessions_are_told_apart_and_the_one_before_is_kept_while_it_is_young_enough(footage):
    ring, times = filled(footage, session=4)
    filled(footage, session=5, ring=ring)
    for session in (4, 5):
        cut = ring.cut(session, times[60])
        assert {stream.session for stream, _ in cut.packets} == {session}
        assert cut.packets[-1][1].media_s is not None
    assert ring.cut(6, 0.0).packets == []


def test_packets_whose_pictures_are_still_in_the_decoder_wait_and_damaged_ones_do_not_hold_others_up():
    ring = PacketRing(60.0, 1 << 20, now=Clock())
    tap = ring.connect()
    tap.begin_session(0)

    def add(number, *, key=False):
        unit = av.Packet(b"\0" * 100)
        unit.is_keyframe, unit.opaque = key, number
        tap.add(unit)

    tap.begin(None)
    stream = tap._stream
    add(0)  # before a keyframe: nobody could begin with it
    for number in range(1, 40):
        add(number, key=number == 1)
    for number, media_s in [(1, 0.0), (3, 0.04), (4, 0.08)]:  # 2 is shown after them
        ring.note_shown(stream, number, media_s)
    assert [packet.number for _, packet in ring.cut(0, 0.0).timed()] == [1]
    ring.note_shown(stream, 2, 0.12)
    assert [packet.number for _, packet in ring.cut(0, 0.0).timed()] == [1, 2, 3, 4]
    for number in range(6, 40):  # 5 never comes
        ring.note_shown(stream, number, 0.04 * number)
    assert [packet.number for _, packet in ring.cut(0, 0.0).timed()] == list(range(1, 40))
