import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.pace import PlaybackPacer


def read(pace, times_s, now=0.0, work_s=0.0):
    """When each frame is read on by somebody who needs ``work_s`` for one."""
    came = []
    for time_s in times_s:
        now += pace.delay_s(time_s, now)
        came.append(now)
        now += work_s
    return came


@given(
    start_s=st.floats(-1e4, 1e6), now=st.floats(0.0, 1e6), steps_s=st.lists(st.floats(0.001, 59.0), max_size=50),
    part=st.floats(0.0, 0.9),
)  # fmt: skip
def test_every_frame_comes_as_long_after_the_first_as_its_media_time_says(start_s, now, steps_s, part):
    times_s = [start_s]
    for step_s in steps_s:
        times_s.append(times_s[-1] + step_s)
    came = read(PlaybackPacer(), times_s, now, work_s=part * min(steps_s, default=0.0))
    assert [at - now for at in came] == pytest.approx([time_s - start_s for time_s in times_s], abs=1e-6)


def test_a_hitch_is_made_up_for_so_that_the_rate_is_kept():
    pace = PlaybackPacer()
    assert read(pace, [0.0, 0.1]) == [0.0, 0.1]
    assert read(pace, [0.2, 0.3, 0.4], now=0.55) == [0.55, 0.55, 0.55]
    assert read(pace, [0.5, 0.6, 0.7], now=0.55) == pytest.approx([0.55, 0.6, 0.7])


def test_a_pause_is_not_caught_up():
    pace = PlaybackPacer()
    read(pace, [0.0, 0.1, 0.2])
    assert read(pace, [0.3, 0.4, 0.5], now=100.0) == pytest.approx([100.0, 100.1, 100.2])


def test_whoever_is_slower_than_the_file_never_waits_and_goes_on_at_its_speed_once_it_can():
    pace, times_s = PlaybackPacer(), [number / 10 for number in range(100)]
    slow = read(pace, times_s[:50], work_s=0.3)
    assert slow[-1] == pytest.approx(49 * 0.3)
    quick = read(pace, times_s[50:], now=slow[-1])
    assert quick[-1] - quick[0] == pytest.approx(4.9, abs=0.5)


@pytest.mark.parametrize("leap_s", [-5.0, 3600.0, 1e9])
def test_time_stamps_that_leap_make_nobody_wait(leap_s):
    pace = PlaybackPacer()
    read(pace, [0.0, 0.1])
    assert read(pace, [0.1 + leap_s, 0.2 + leap_s], now=0.2) == pytest.approx([0.2, 0.3])


def test_after_a_time_without_pace_the_next_frame_is_due_at_once():
    pace = PlaybackPacer()
    read(pace, [0.0, 0.1])
    pace.restart()
    assert read(pace, [30.0, 30.1], now=0.2) == pytest.approx([0.2, 0.3])
