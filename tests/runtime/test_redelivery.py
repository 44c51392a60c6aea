from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.redelivery import MAX_DEATHS, RedeliveryQueue
from pipeline.types import Frame, FrameHeader


def frame(serial, camera_id="file"):
    header = FrameHeader(camera_id, 0, serial, serial, Fraction(1, 10), 0.0, serial)
    return Frame(header, np.zeros((1, 1, 3), np.uint8))


@given(st.integers(1, 12), st.integers(1, 5), st.sets(st.integers(0, 11), max_size=2), st.data())
def test_the_frame_that_kills_detectors_is_found_and_every_other_one_is_scored_once(count, batch, quarantined, data):
    """A simulated detector dies with whatever it holds once it holds a killer; now and then it dies for no reason."""
    unconfirmed, waiting, life = RedeliveryQueue(), [frame(serial) for serial in range(count)], 0
    scored, set_aside, deaths = [], [], 0
    for _ in range(20 * count):
        set_aside += [f.header.serial for f in unconfirmed.taken_by("detector", f"life {life}", life)]
        if unconfirmed.has_retries:
            suspect = unconfirmed.next_retry()
            taken = [suspect] if suspect else []
        else:
            taken, waiting = waiting[:batch], waiting[batch:]
            unconfirmed.add(taken)
        serials = [f.header.serial for f in taken]
        by_accident = deaths < 2 and data.draw(st.booleans())
        if by_accident or quarantined & set(serials):
            deaths += by_accident
            life += 1
            continue
        scored += serials
        if serials:
            unconfirmed.confirm({"file": serials[-1] + 1})
        if not waiting and not unconfirmed.has_retries:
            break
    assert sorted(scored + set_aside) == list(range(count))
    assert len(scored) == len(set(scored))
    assert set(set_aside) >= quarantined & set(range(count))
    assert scored == sorted(scored)


def test_a_frame_is_dispatched_again_until_it_was_in_three_dying_detectors():
    unconfirmed = RedeliveryQueue()
    unconfirmed.taken_by("detector", "first", 0)
    unconfirmed.add([frame(0)])
    for life in range(1, MAX_DEATHS):
        assert unconfirmed.taken_by("detector", f"life {life}", life) == []
        suspect = unconfirmed.next_retry()
        assert suspect is not None
        assert unconfirmed.next_retry() is None  # it is out, and alone
    assert [f.header.serial for f in unconfirmed.taken_by("other", "last", MAX_DEATHS)] == [0]
    assert not unconfirmed.has_retries


def test_a_frame_whose_fate_is_known_is_not_dispatched_again():
    unconfirmed = RedeliveryQueue()
    unconfirmed.taken_by("detector", "first", 0)
    unconfirmed.add([frame(0), frame(1), frame(7, "other")])
    unconfirmed.confirm({"file": 1})
    unconfirmed.taken_by("other", "second", 1)
    names = []
    while (suspect := unconfirmed.next_retry()) is not None:
        names.append((suspect.header.camera_id, suspect.header.serial))
        unconfirmed.confirm({suspect.header.camera_id: suspect.header.serial + 1})
    assert names == [("file", 1), ("other", 7)]


def test_a_frame_that_moved_between_living_detectors_survives_as_many_deaths_as_any():
    unconfirmed = RedeliveryQueue()
    unconfirmed.taken_by("a", "a1", 0)
    unconfirmed.add([frame(0), frame(1)])
    unconfirmed.taken_by("b", "b1", 0)  # nobody died
    for serial in (0, 1):  # it may be that nobody has confirmed them: they are redelivered, in order
        suspect = unconfirmed.next_retry()
        assert suspect is not None
        assert suspect.header.serial == serial
        if serial == 0:
            unconfirmed.confirm({"file": 1})
    assert unconfirmed.taken_by("b", "b2", 0) == []  # it died, and was back before the supervisor noticed
    unconfirmed.next_retry()
    assert unconfirmed.taken_by("b", "b2", 1) == []  # now the supervisor has: it is the same death
    assert unconfirmed.taken_by("a", "a1", 1) == []  # moved back
    unconfirmed.next_retry()
    assert unconfirmed.taken_by("b", "b2", 2) == []
    unconfirmed.next_retry()
    assert [f.header.serial for f in unconfirmed.taken_by("a", "a1", 3)] == [1]
