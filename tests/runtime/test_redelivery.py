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
def test_the_frame_that_kills_detectors_is_found_and_every_other_one_is_scored_once(count, batch, killers, data):
    """A simulated detector dies with whatever it holds once it holds a killer; now and then it dies for no reason."""
    queue, waiting, life = RedeliveryQueue(), [frame(serial) for serial in range(count)], 0
    scored, set_aside, deaths = [], [], 0
    for _ in range(20 * count):
        set_aside += [f.header.serial for f in queue.taken_by("detector", f"life {life}", life)]
        if queue.has_retries:
            retry = queue.next_retry()
            taken = [retry] if retry else []
        else:
            taken, waiting = waiting[:batch], waiting[batch:]
            queue.add(taken)
        serials = [f.header.serial for f in taken]
        by_accident = deaths < 2 and data.draw(st.booleans())
        if by_accident or killers & set(serials):
            deaths += by_accident
            life += 1
            continue
        scored += serials
        if serials:
            queue.confirm({"file": serials[-1] + 1})
        if not waiting and not queue.has_retries:
            break
    assert sorted(scored + set_aside) == list(range(count))
    assert len(scored) == len(set(scored))
    assert set(set_aside) >= killers & set(range(count))
    assert scored == sorted(scored)


def test_a_frame_is_dispatched_again_until_it_was_in_three_dying_detectors():
    queue = RedeliveryQueue()
    queue.taken_by("detector", "first", 0)
    queue.add([frame(0)])
    for life in range(1, MAX_DEATHS):
        assert queue.taken_by("detector", f"life {life}", life) == []
        retry = queue.next_retry()
        assert retry is not None
        assert queue.next_retry() is None  # it is out, and alone
    assert [f.header.serial for f in queue.taken_by("other", "last", MAX_DEATHS)] == [0]
    assert not queue.has_retries


def test_a_frame_whose_result_is_known_is_not_dispatched_again():
    queue = RedeliveryQueue()
    queue.taken_by("detector", "first", 0)
    queue.add([frame(0), frame(1), frame(7, "other")])
    queue.confirm({"file": 1})
    queue.taken_by("other", "second", 1)
    names = []
    while (retry := queue.next_retry()) is not None:
        names.append((retry.header.camera_id, retry.header.serial))
        queue.confirm({retry.header.camera_id: retry.header.serial + 1})
    assert names == [("file", 1), ("other", 7)]


def test_a_frame_that_moved_between_living_detectors_survives_as_many_deaths_as_any():
    queue = RedeliveryQueue()
    queue.taken_by("a", "a1", 0)
    queue.add([frame(0), frame(1)])
    queue.taken_by("b", "b1", 0)  # nobody died
    for serial in (0, 1):  # it may be that nobody has confirmed them: they are redelivered, in order
        retry = queue.next_retry()
        assert retry is not None
        assert retry.header.serial == serial
        if serial == 0:
            queue.confirm({"file": 1})
    assert queue.taken_by("b", "b2", 0) == []  # it died, and was back before the supervisor noticed
    queue.next_retry()
    assert queue.taken_by("b", "b2", 1) == []  # now the supervisor has: it is the same death
    assert queue.taken_by("a", "a1", 1) == []  # moved back
    queue.next_retry()
    assert queue.taken_by("b", "b2", 2) == []
    queue.next_retry()
    assert [f.header.serial for f in queue.taken_by("a", "a1", 3)] == [1]
