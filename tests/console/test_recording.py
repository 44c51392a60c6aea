"""What a log shows of a recording under way."""

import io

from rich.console import Console

from pipeline.console.progress import LineClock
from pipeline.console.recording import follow_recording, recording_line
from pipeline.video.record import RecorderStatus


def status(camera_id, state="recording", segments=2):
    return RecorderStatus(camera_id, camera_id, state, segments, 90.0, 1_500_000, 1, 0, 0, 0, "")


def test_all_cameras_are_reported_in_one_line_which_names_those_that_are_not_recorded():
    assert recording_line([status("gate"), status("yard", "waiting", 0)]) == (
        "recording: 1 of 2 cameras, 2 segments, 3.00 minutes, 3.0 MB, 2 reconnects, 0 gaps, 0 unreadable; "
        "not recorded now: yard (waiting)"
    )
    assert recording_line([status("gate")]).endswith("0 unreadable")
    many = [status(f"c{number}", "opening") for number in range(9)]
    assert recording_line(many).endswith("c4 (opening) and 4 more")


def test_a_log_gets_a_line_at_once_and_then_at_the_pace():
    now_s, file = [0.0], io.StringIO()
    err = Console(file=file, width=40)
    with follow_recording(lambda: [status("gate")], err, LineClock(endless=False, now=lambda: now_s[0])) as tell:
        for _ in range(170):
            tell()
            now_s[0] += 0.25
    assert file.getvalue().splitlines() == [recording_line([status("gate")])] * 3
