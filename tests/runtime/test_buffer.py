import threading
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.types import Frame, FrameHeader

NOW = BatchPolicy(max_frames=1000, max_wait_s=0.0)


def frame(camera_id: str, index: int) -> Frame:
    header = FrameHeader(camera_id, 0, index, index, Fraction(1, 10), 0.0)
    return Frame(header, np.zeros((1, 1, 3), np.uint8))


def names(frames):
    return [(taken.header.camera_id, taken.header.index) for taken in frames]


@given(st.lists(st.sampled_from(["put", "take"]), max_size=60), st.integers(1, 4))
def test_a_live_camera_keeps_its_newest_frames_and_counts_the_rest(steps, capacity):
    dropped = []
    buffers = FrameBuffers(lambda: 0.0, on_drop=lambda frame, reason: dropped.append((frame.header.index, reason)))
    buffers.add_camera("a", capacity, "drop_oldest")
    put, taken = 0, []
    for step in steps:
        if step == "put":
            buffers.put(frame("a", put))
            put += 1
        elif buffers.waiting():
            taken += [index for _, index in names(buffers.take(NOW, 0.0))]
    assert taken == sorted(set(taken))
    assert put == len(taken) + buffers.waiting("a") + len(dropped)
    assert {reason for _, reason in dropped} <= {"overload"}
    assert sorted(taken + [index for index, _ in dropped]) == list(range(put - buffers.waiting("a")))
    assert buffers.waiting("a") <= capacity
    if buffers.waiting("a"):
        assert names(buffers.take(NOW, 0.0))[-1][1] == put - 1


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 6), min_size=1), st.integers(1, 7))
def test_cameras_take_turns_and_none_starves(sizes, max_frames):
    buffers = FrameBuffers(lambda: 0.0)
    for camera_id, count in sizes.items():
        buffers.add_camera(camera_id, 10, "block")
        for index in range(count):
            buffers.put(frame(camera_id, index))
    taken = []
    while buffers.waiting():
        taken += names(buffers.take(BatchPolicy(max_frames, 0.0), 0.0))
    for camera_id, count in sizes.items():
        assert [index for name, index in taken if name == camera_id] == list(range(count))
    rounds = [taken.index((camera_id, 0)) for camera_id in sizes]
    assert max(rounds) < len(sizes)  # everyone's first frame comes before anyone's second


def test_a_files_producer_waits_until_there_is_room_and_loses_nothing():
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", 2, "block")
    producer = threading.Thread(target=lambda: [buffers.put(frame("a", index)) for index in range(20)], daemon=True)
    producer.start()
    taken = []
    while len(taken) < 20:
        taken += names(buffers.take(BatchPolicy(3, 0.0), 5.0))
    producer.join(5.0)
    assert [index for _, index in taken] == list(range(20))


def test_frames_that_came_together_are_taken_together_and_those_of_unknown_cameras_are_given_back():
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", 4, "block")
    buffers.add_camera("b", 4, "drop_oldest")
    taken = []
    consumer = threading.Thread(target=lambda: taken.extend(buffers.take(NOW, 30.0)))
    consumer.start()
    refused = buffers.put_all([frame("a", 0), frame("b", 0), frame("gone", 0), frame("a", 1)])
    consumer.join(30.0)
    assert names(refused) == [("gone", 0)]
    assert sorted(names(taken)) == [("a", 0), ("a", 1), ("b", 0)]


def test_more_frames_than_a_files_buffer_holds_can_be_put_together_while_somebody_takes():
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", 2, "block")
    frames = [frame("a", index) for index in range(9)]
    producer = threading.Thread(target=lambda: buffers.put_all(frames), daemon=True)
    producer.start()
    taken = []
    while len(taken) < 9:
        taken += names(buffers.take(NOW, 30.0))
    producer.join(30.0)
    assert [index for _, index in taken] == list(range(9))


def test_closing_wakes_a_blocked_producer_and_keeps_what_is_there():
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", 1, "block")
    buffers.put(frame("a", 0))
    answers = []
    producer = threading.Thread(target=lambda: answers.append(buffers.put(frame("a", 1))), daemon=True)
    producer.start()
    buffers.close()
    producer.join(5.0)
    assert answers == [False]
    assert names(buffers.take(NOW, 0.0)) == [("a", 0)]


def test_a_time_out_gives_nothing():
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", 1, "block")
    assert buffers.take(NOW, 0.01) == []


def test_a_batch_waits_for_company_until_its_oldest_frame_is_old_enough():
    clock = [0.0]
    buffers = FrameBuffers(lambda: clock[0])
    buffers.add_camera("a", 4, "block")
    buffers.put(frame("a", 0))
    clock[0] = 10.0
    assert names(buffers.take(BatchPolicy(4, max_wait_s=9.0), 0.0)) == [("a", 0)]


def test_a_live_cameras_frames_that_became_too_old_are_discarded_when_somebody_comes_for_them():
    dropped, unix_now = [], 5.0
    buffers = FrameBuffers(lambda: 0.0, lambda: unix_now, on_drop=lambda *what: dropped.append(what))
    buffers.add_camera("a", 10, "drop_oldest", max_age_s=2.0)
    buffers.add_camera("file", 10, "block")
    for index, captured_at_s in enumerate((1.0, 2.9, 3.0, 5.0)):
        header = FrameHeader("a", 0, index, index, Fraction(1, 10), captured_at_s)
        buffers.put(Frame(header, np.zeros((1, 1, 3), np.uint8)))
    buffers.put(frame("file", 0))
    assert sorted(names(buffers.take(NOW, 0.0))) == [("a", 2), ("a", 3), ("file", 0)]
    assert [(taken.header.index, reason) for taken, reason in dropped] == [(0, "stale"), (1, "stale")]


def test_frames_of_a_camera_that_is_removed_or_for_which_no_time_is_left_are_counted():
    dropped = []
    buffers = FrameBuffers(lambda: 0.0, on_drop=lambda taken, reason: dropped.append((taken.header.camera_id, reason)))
    for camera_id in "ab":
        buffers.add_camera(camera_id, 4, "drop_oldest")
        buffers.put(frame(camera_id, 0))
    buffers.remove_camera("a")
    assert not buffers.put(frame("a", 1))
    assert dropped == [("a", "shutdown")]
    buffers.clear()
    assert dropped == [("a", "shutdown"), ("b", "shutdown")]
    assert buffers.put(frame("b", 1))


def test_a_producer_that_waits_is_let_go_when_its_camera_is_removed():
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", 1, "block")
    buffers.put(frame("a", 0))
    answers = []
    producer = threading.Thread(target=lambda: answers.append(buffers.put(frame("a", 1))))
    producer.start()
    buffers.remove_camera("a")
    producer.join(10.0)
    assert answers == [False]


def test_the_backlog_is_what_waits_and_how_long_the_oldest_does():
    clock = 10.0
    buffers = FrameBuffers(lambda: clock)
    buffers.add_camera("a", 2, "block")
    assert buffers.backlog() == (0, 0.0)
    buffers.put(frame("a", 0))
    clock = 12.5
    buffers.put(frame("a", 1))
    assert buffers.backlog() == (2, 2.5)


@given(st.lists(st.sampled_from([*"abc", "take"]), max_size=80), st.integers(0, 6), st.integers(1, 3))
def test_no_frame_makes_way_for_another_while_whoever_takes_has_room_for_both(steps, spare, max_frames):
    dropped = []
    buffers = FrameBuffers(lambda: 0.0, on_drop=lambda frame, reason: dropped.append(frame), spare=spare)
    for camera_id in "abc":
        buffers.add_camera(camera_id, 1, "drop_oldest")
    put, taken = [], []
    for step in steps:
        if step == "take":
            taken += names(buffers.take(BatchPolicy(max_frames, 0.0), 0.0)) if buffers.waiting() else []
            continue
        waiting, before = buffers.waiting(), len(dropped)
        put.append((step, len(put)))
        buffers.put(frame(*put[-1]))
        assert len(dropped) == before or waiting >= spare
        assert buffers.waiting() <= spare + 3
    assert (
        len(put)
        == len(taken) + len(dropped) + buffers.waiting()
        == len(taken) + len(dropped) + sum(buffers.waiting(camera_id) for camera_id in "abc")
    )
    for camera_id in "abc":
        own = [number for name, number in taken if name == camera_id]
        assert own == sorted(own)


def test_how_long_frames_that_were_taken_had_waited_is_counted_and_of_others_it_is_not():
    clock = 10.0
    buffers = FrameBuffers(lambda: clock)
    buffers.add_camera("a", 2, "drop_oldest")
    for index in range(3):
        buffers.put(frame("a", index))
        clock += 1.0
    buffers.take(NOW, 0.0)
    assert (sum(buffers.waited().buckets), buffers.waited().total) == (2, 1.0 + 2.0)
