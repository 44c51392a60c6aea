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
    buffers = FrameBuffers(lambda: 0.0)
    buffers.add_camera("a", capacity, "drop_oldest")
    put, taken = 0, []
    for step in steps:
        if step == "put":
            buffers.put(frame("a", put))
            put += 1
        elif buffers.waiting():
            taken += [index for _, index in names(buffers.take(NOW, 0.0))]
    assert taken == sorted(set(taken))
    assert put == len(taken) + buffers.waiting("a") + buffers.overloaded("a")
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
    assert buffers.overloaded("a") == 0


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
