"""Values that pass between stages: what a batch keeps of its frames."""

import pickle
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.types import Dropped, Frame, FrameBatch, FrameHeader, Prediction, PreviousLuma


def frame(number, *, paired=True):
    draw = np.random.default_rng(number)
    header = FrameHeader("gate", 0, number, number, Fraction(1, 25), 0.0, number)
    luma = draw.integers(0, 256, (4, 6), dtype=np.uint8)
    previous = PreviousLuma(luma, 0.125 * (number + 1)) if paired else None
    return Frame(header, draw.integers(0, 256, (4, 6, 3), dtype=np.uint8), previous)


@pytest.mark.parametrize("count", [1, 3])
def test_frames_leave_a_batch_as_they_came_with_pairs_and_without(count):
    frames = [frame(number, paired=number != 1) for number in range(count)]
    batch = FrameBatch.of(frames, [Dropped(frames[0].header, "stale")])
    assert (batch.images.shape, batch.previous_luma.shape) == ((count, 4, 6, 3), (count, 4, 6))
    assert (batch.gaps_s.dtype, batch.gaps_s.tolist()) == (np.float32, [0.125, 0.0, 0.375][:count])
    assert not batch.previous_luma[1:2].any()
    for came, went in zip(batch.frames(), frames, strict=True):
        assert came.header == went.header
        assert np.array_equal(came.image, went.image)
        assert (came.previous is None) == (went.previous is None)
        assert came.previous is None or np.array_equal(came.previous.luma, went.previous.luma)
        assert came.previous is None or came.previous.gap_s == went.previous.gap_s


def test_a_frame_that_left_a_batch_does_not_keep_the_others_in_memory():
    batch = FrameBatch.of([frame(number) for number in range(2)])
    for came in batch.frames():
        assert came.image.base is None
        assert came.previous.luma.base is None


def test_a_batch_may_hold_nothing_but_what_was_dropped():
    batch = FrameBatch.of([], [Dropped(frame(0).header, "stale")])
    assert (len(batch), batch.frames(), len(batch.dropped)) == (0, [], 1)


@given(st.integers(-(2**63), 2**63), st.integers(1, 10**6), st.integers(1, 10**6))
def test_media_time_is_the_nearest_number_to_pts_times_time_base(pts, ticks, per):
    base = Fraction(ticks, per)
    assert FrameHeader("gate", 0, 0, pts, base, 0.0).media_time_s == float(pts * base)


def test_what_is_sent_arrives_whole_whatever_its_fields():
    header = FrameHeader("gate", 1, 2, 3, Fraction(4, 5), 6.0, 7, "eight")
    prediction = Prediction(header, 8.0, np.arange(6, dtype=np.float16).reshape(2, 3), True, 9.0, 0.5)
    came = pickle.loads(pickle.dumps(prediction))
    for sent, got in ((header, came.header), (prediction, came)):
        for field in fields(sent):
            value = getattr(sent, field.name)
            assert value is not field.default  # or it would arrive by itself
            assert np.array_equal(getattr(got, field.name), value)
