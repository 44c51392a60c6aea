"""How recording ends: by a signal, a kill, a full disk, or threads that are stuck; what was whole then stays."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pipeline.video.record as record_module
from pipeline.errors import VideoError
from pipeline.video.packet_timeline import PacketTimeline
from pipeline.video.segment import VideoFormatReader
from tests.http_camera import that_sends
from tests.video.recorders import (
    ROOT,
    camera,
    clips,
    is_in_a_row,
    recording,
    staged,
    videos,
)
from tests.video.station import until
from tests.videos import write_video


@pytest.fixture
def command():
    """Starts the command in processes of their own, for signals and limits; none outlives the test."""
    started = []

    def start(*arguments, **options):
        started.append(begin(*arguments, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def begin(out, url, *arguments, file_limit_bytes=None, **settings):
    config = out.parent / "c.json"
    config.write_text(json.dumps({"cameras": [{"id": "gate", "url": url, **settings}]}))

    process = subprocess.Popen(
        [sys.executable, ROOT / "run_cluster.py", "record", "--config", config, "--out", out, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if file_limit_bytes is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))
    return process


def ended(process, code=0, within_s=30.0):
    said, complained = process.communicate(timeout=within_s)
    assert process.returncode == code, said + complained
    assert "Traceback" not in complained
    return said, complained


def falls_silent(video):
    """A camera that sends a video at once and then nothing, without ending the connection."""

    def send(write, wait):
        write(video.read_bytes())
        wait(None)

    return that_sends(send)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_seconds_with_all_segments_whole_though_the_camera_is_silent(tmp_path, command, number):
    out = tmp_path / "out"
    video = write_video(tmp_path / "camera.ts", 60, gop=10, size_px=(64, 96))
    with falls_silent(video) as url:
        process = command(out, url, "--segment-minutes", 0.01, read_timeout_s=60, open_timeout_s=60)
        until(lambda: (out / "training").is_dir() and len(videos(out)) == 2 and staged(out), "a third has begun")
        process.send_signal(number)
        said, _ = ended(process, within_s=8.0)
    assert "gate" in said
    assert not staged(out)
    found = [number for numbers in clips(out).values() for number in numbers]
    assert found == list(range(len(found)))
    # The third's last may still have been on their way; a picture is whole once the next has begun, here and in TS.
    assert 40 < len(found) <= 58


def test_after_a_kill_whole_segments_stand_and_the_next_run_keeps_the_rest_and_goes_on(tmp_path, command, rtsp):
    out = tmp_path / "out"
    process = command(out, rtsp.url("gate"), "--segment-minutes", 0.05)
    until(lambda: out.is_dir() and (out / "training").is_dir() and videos(out), "a segment is whole")
    whole = {path.name: path.read_bytes() for path in videos(out)}
    # The rest is what has left the muxer, a second at a time.
    until(lambda: any(path.stat().st_size > 10_000 for path in staged(out)), "another one is on disk in part")
    process.kill()
    process.communicate()
    assert set(clips(out)) >= {Path(name).stem for name in whole}
    before = len(videos(out))
    (out / ".recording" / "gate" / "nothing.mkv").write_bytes(b"\x1a\x45\xdf\xa3 cut off at once")
    said, complained = ended(command(out, rtsp.url("gate"), "--minutes", 0.02))
    assert f"gate_{before + 1:04d}.mkv" in complained  # what was kept
    assert "nothing" not in complained
    found = clips(out)
    assert list(found) == [f"gate_{number:04d}" for number in range(1, before + 3)]
    assert len(found[f"gate_{before + 1:04d}"]) >= 20
    assert all(is_in_a_row(numbers, of=100) for numbers in found.values())
    assert all((out / "training" / "videos" / name).read_bytes() == data for name, data in whole.items())
    assert not staged(out)
    assert "gate" in said


def test_a_full_disk_is_said_in_one_line_and_whole_segments_stay(tmp_path, command, http_folder):
    # The kernel lets no file grow further: as real as a full disk, and needs no disk of its own.
    folder, address = http_folder
    quiet, busy = (folder / f"{name}.ts" for name in ("quiet", "busy"))
    write_video(quiet, 20, gop=10, size_px=(64, 96))
    write_video(busy, 100, gop=100, size_px=(240, 320))
    out = tmp_path / "out"
    ended(command(out, f"{address}/quiet.ts", "--minutes", 0.01, file_limit_bytes=12_000))
    whole = clips(out)
    _, complained = ended(command(out, f"{address}/busy.ts", file_limit_bytes=12_000), code=1)
    (line,) = [line for line in complained.splitlines() if line.startswith("error:")]
    assert "cannot be written: File too large" in line
    assert clips(out) == whole
    _, complained = ended(command(out, f"{address}/quiet.ts", "--minutes", 0.01))
    assert f"gate_{len(whole) + 1:04d}.mkv" in complained  # what was on disk when it was full
    assert clips(out).items() >= whole.items()


def test_an_unforeseen_failure_of_one_camera_is_told_and_the_others_are_recorded(
    tmp_path, http_folder, monkeypatch, caplog
):
    """A bug that one camera's keyframes bring out, since no known stream does."""
    folder, address = http_folder
    for name in ("gate", "yard"):
        write_video(folder / f"{name}.ts", 20, gop=10, size_px=(64, 96))

    class Failing(VideoFormatReader):
        def video_format(self, packet, mark):
            if threading.current_thread().name == "record-yard":
                raise ZeroDivisionError("rtsp://viewer:hunter2@host/cam: no pixels")
            return super().video_format(packet, mark)

    monkeypatch.setattr(record_module, "VideoFormatReader", Failing)
    cameras = [camera(f"{address}/{name}.ts", name) for name in ("gate", "yard")]
    with recording(tmp_path / "out", *cameras) as (gate, yard):
        until(lambda: yard.status().reconnects >= 2, "the one that fails is tried again")
        segments = gate.status().segments
        until(lambda: gate.status().segments > segments, "the other is recorded")
        until(lambda: yard.status().state == "waiting", "it waits before it is tried again")
        error = yard.status().error
    assert set(clips(tmp_path / "out")) == {path.stem for path in videos(tmp_path / "out")}
    assert {path.stem.rpartition("_")[0] for path in videos(tmp_path / "out")} == {"gate"}
    assert "ZeroDivisionError: rtsp://***@host/cam: no pixels" in error
    assert error.startswith("yard (http://")
    assert error in caplog.text
    assert "hunter2" not in caplog.text


def test_a_thread_stuck_in_ffmpeg_is_left_to_itself_with_what_it_recorded_kept(
    tmp_path, http_folder, monkeypatch, caplog
):
    """No real server can hold FFmpeg beyond its limits on demand, so after the first connection's packets we do."""
    folder, address = http_folder
    write_video(folder / "gate.ts", 20, gop=10, size_px=(64, 96))
    release, held = threading.Event(), []
    flush = PacketTimeline.flush

    def held_at_first(timeline):
        if not held:
            held.append(threading.current_thread())
            assert release.wait(60.0)
        return flush(timeline)

    monkeypatch.setattr(PacketTimeline, "flush", held_at_first)
    settings = camera(f"{address}/gate.ts", read_timeout_s=0.1, stall_timeout_s=0.3)
    with recording(tmp_path / "out", settings) as (recorder,):
        until(lambda: "its thread is stuck" in caplog.text, "the stuck thread is noticed")
        until(lambda: recorder.status().segments >= 2, "what it had is kept, and another thread records")
        release.set()
        until(lambda: not held[0].is_alive(), "the stuck thread ends")
    assert recorder.failure is None
    assert all(numbers == list(range(len(numbers))) for numbers in clips(tmp_path / "out").values())


def test_recorders_that_get_stuck_again_and_again_do_not_pile_up_threads_and_end_all_the_same(tmp_path, monkeypatch):
    release, stuck = threading.Event(), []

    def open_stuck(*arguments, **options):
        stuck.append(threading.current_thread())
        assert release.wait(60.0)
        raise VideoError("released")

    monkeypatch.setattr(record_module, "open_live", open_stuck)
    settings = camera("rtsp://127.0.0.1:9/x", open_timeout_s=0.1, stall_timeout_s=0.2)
    with recording(tmp_path / "out", settings) as (recorder,):
        until(lambda: len(stuck) == 5, "four were left to themselves, one tries on")
        until(lambda: "its thread is stuck" in recorder.status().error, "the fifth is stuck, too")
        recorder.check()
        assert len(stuck) == 5
    assert recorder.status().state == "stopped"
    release.set()
    until(lambda: not any(thread.is_alive() for thread in stuck), "all threads end")
