"""What papers do to scores: it looks ahead, and a clip always reaches from 0 to 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.published import SIGMA_S, as_published

clips = arrays(np.float64, st.integers(2, 60), elements=st.integers(-100, 100).map(float))


def at(fps: float, frames: int) -> np.ndarray:
    return np.arange(frames) / fps


def test_one_peak_becomes_a_gaussian_of_three_frames_at_ten_a_second():
    scores = np.zeros(41)
    scores[20] = 7.0
    found = as_published(scores, at(10.0, 41))
    bell = np.exp(-0.5 * (np.arange(-12, 13) / (10.0 * SIGMA_S)) ** 2)  # cut at four standard deviations
    assert found[8:33] == pytest.approx(bell, abs=1e-9)
    assert not found[:8].any() and not found[33:].any()


def test_the_width_is_in_seconds_whatever_the_rate():
    scores = np.zeros(401)
    scores[200] = 1.0
    half = [np.count_nonzero(as_published(scores, at(fps, 401)) > 0.5) / fps for fps in (25.0, 50.0)]
    assert half[0] == pytest.approx(half[1], abs=1 / 25)


def test_a_later_frame_changes_an_earlier_one():
    scores = np.sin(np.arange(30.0))
    later = np.concatenate([scores[:15], np.full(15, 9.0)])
    assert as_published(scores, at(10.0, 30))[10] != as_published(later, at(10.0, 30))[10]


@given(clips)
def test_every_clip_reaches_from_0_to_1_or_is_flat(scores):
    found = as_published(scores, at(10.0, scores.size))
    assert found.shape == scores.shape
    assert (found.min(), found.max()) in {(0.0, 1.0), (0.0, 0.0)}


@given(clips, st.sampled_from([0.5, 2.0, 8.0]), st.sampled_from([-64.0, 0.0, 32.0]))
def test_neither_scale_nor_level_of_a_clip_is_left(scores, scale, level):
    time = at(10.0, scores.size)
    if np.ptp(scores) > 0:
        assert as_published(scale * scores + level, time) == pytest.approx(as_published(scores, time), abs=1e-9)


@given(clips)
def test_backwards_it_is_the_same(scores):
    time = at(10.0, scores.size)
    if np.ptp(scores) > 0:
        assert as_published(scores[::-1], time) == pytest.approx(as_published(scores, time)[::-1], abs=1e-9)


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_between_which_no_time_passes_are_scaled_alone(frames):
    found = as_published(np.arange(frames), np.zeros(frames))
    assert found.tolist() == [0.0, 0.5, 1.0][: frames if frames == 3 else 1]
