"""Recording from real RTSP and HTTP servers: what is on disk afterwards is what they sent, whatever happened."""

import contextlib
import io
import itertools
import threading
import time
from fractions import Fraction

import av
import pytest
from PIL import Image

from pipeline.datasets.detect import open_dataset
from pipeline.errors import RunError
from pipeline.video.recordings import RecordingFolder
from pipeline.video.source import open_source
from tests.http_camera import Snapshots, jpeg, picture, that_sends
from tests.rtsp import RtspServer, require_rtsp, write_footage
from tests.video.failing_system import cannot_open_files, failing_disk
from tests.video.recorders import (
    camera,
    clips,
    is_in_a_row,
    recorded_s,
    recording,
    slices,
    staged,
    videos,
)
from tests.video.station import until
from tests.videos import frame_number, numbered_frame, write_video


@pytest.mark.server
@pytest.mark.parametrize("b_frames", [0, 2])
def test_segments_hold_every_packet_bit_by_bit_and_begin_with_keyframes(tmp_path, b_frames):
    require_rtsp()
    footage = write_video(tmp_path / "gate.mp4", 100, gop=10, b_frames=b_frames, size_px=(64, 96))
    with (
        RtspServer({"gate": footage}) as server,
        recording(tmp_path / "out", camera(server.url("gate")), segment_s=0.8) as (recorder,),
    ):
        until(lambda: recorder.status().segments >= 3, "three segments are whole")
    found = clips(tmp_path / "out")
    assert list(found) == [f"gate_000{number}" for number in range(1, len(found) + 1)]
    assert all(numbers[0] % 10 == 0 for numbers in found.values())
    whole = list(found.values())[:3]  # the last one ends in the middle of a group of pictures
    assert all(len(numbers) % 10 == 0 for numbers in whole)
    assert is_in_a_row([number for numbers in whole for number in numbers], of=100)
    sent = slices(footage)
    got = [piece for path in videos(tmp_path / "out") for piece in slices(path)]
    start = sent.index(got[0])
    assert got == [sent[(start + i) % len(sent)] for i in range(len(got))]
    assert not staged(tmp_path / "out")


def test_a_camera_that_shares_a_scene_shares_its_name_and_no_file_is_lost(tmp_path, rtsp):
    cameras = [camera(rtsp.url("gate"), name, scene="Yard_Door.2") for name in ("a", "b")]
    with recording(tmp_path / "out", *cameras, segment_s=0.4) as recorders:
        for recorder in recorders:
            until(lambda recorder=recorder: recorder.status().segments >= 2, "two segments are whole")
    dataset = open_dataset(tmp_path / "out", need="train")
    assert dataset.scenes == ("Yard_Door.2",)
    found = len(dataset.train) + len(dataset.passed_over)  # a last segment may hold a single frame
    assert found == sum(recorder.status().segments for recorder in recorders) >= 4
    assert all(numbers for numbers in clips(tmp_path / "out").values())


def test_a_lost_connection_ends_a_segment_and_the_next_one_begins_another(tmp_path, rtsp):
    with recording(tmp_path / "out", camera(rtsp.url("gate"))) as (recorder,):
        recorded_s(recorder, 0.4)
        rtsp.command("drop")
        until(lambda: recorder.status().segments == 1, "the first segment is whole")
        until(lambda: recorder.status().reconnects == 1, "it is connected again")
        recorded_s(recorder, 1.2)
        rtsp.kill()
        until(lambda: recorder.status().state == "waiting", "the camera is away")
        before = recorder.status()
        assert "127.0.0.1" in before.error
        rtsp.restart()
        recorded_s(recorder, before.recorded_s + 0.4)
        assert recorder.status().error == ""
    found = clips(tmp_path / "out")
    assert len(found) == recorder.status().segments >= 3
    assert all(is_in_a_row(numbers, of=100) for numbers in found.values())


def test_another_picture_size_begins_another_segment(tmp_path, rtsp):
    larger = write_footage(tmp_path / "larger.mp4", size_px=(96, 128))
    with recording(tmp_path / "out", camera(rtsp.url("gate"))) as (recorder,):
        recorded_s(recorder, 0.4)
        rtsp.command("switch", "gate", larger)
        until(lambda: recorder.status().segments == 1, "the first segment is whole")
        recorded_s(recorder, recorder.status().recorded_s + 0.4)
    sizes = []
    for path in videos(tmp_path / "out"):
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            assert {frame.height for frame in frames} == {container.streams.video[0].height}
            sizes.append((frames[0].height, frames[0].width))
    assert sizes == [(64, 96), (96, 128)]
    assert recorder.status().reconnects == 0


@pytest.mark.parametrize(("codec", "b_frames"), [("libx265", 2), ("libx264", 2), ("mpeg4", 0), ("mpeg2video", 2)])
def test_what_http_serves_is_recorded_with_every_frame_again_and_again(tmp_path, http_folder, codec, b_frames):
    folder, address = http_folder
    write_video(folder / "camera.ts", 40, codec=codec, b_frames=b_frames, size_px=(64, 96))
    with recording(tmp_path / "out", camera(f"{address}/camera.ts")) as (recorder,):
        until(lambda: recorder.status().segments >= 2, "it has come to the end twice")
    found = list(clips(tmp_path / "out").values())
    assert found[:2] == [list(range(40))] * 2
    assert recorder.status().left_out == 0


@pytest.mark.server
@pytest.mark.parametrize(
    ("codec", "b_frames", "repeats"),
    [
        ("libx264", 0, False),
        ("libx264", 0, True),
        ("libx264", 2, False),
        ("libx264", 2, True),
        ("libx265", 0, False),
        ("libx265", 0, True),
        ("libx265", 2, False),
    ],
)
def test_pictures_that_come_in_parts_are_recorded_whole_in_one_segment(tmp_path, codec, b_frames, repeats):
    require_rtsp()
    name = "gate.mp4" if codec == "libx264" else "gate.h265.mp4"
    footage = write_video(tmp_path / name, 40, codec=codec, slices=2, b_frames=b_frames, size_px=(64, 96))
    with (
        RtspServer({"gate": footage}, repeats=repeats) as server,
        recording(tmp_path / "out", camera(server.url("gate"))) as (recorder,),
    ):
        recorded_s(recorder, 2.0)
    (numbers,) = clips(tmp_path / "out").values()
    assert len(numbers) >= 45
    # Where it was stopped, pictures may lack that are shown before others and sent after them.
    assert is_in_a_row(numbers[: -4 if b_frames else None], of=40)
    status = recorder.status()
    assert (status.segments, status.reconnects, status.gaps, status.unreadable) == (1, 0, 0, 0)


def overwrite_beginning(path):
    """What a failing disk, or somebody else, may do to a file while it grows."""
    with path.open("r+b") as file:
        file.write(bytes(4096))


def test_a_segment_that_cannot_be_read_back_is_told_within_seconds_and_not_kept(tmp_path, rtsp, caplog):
    out = tmp_path / "out"
    with recording(out, camera(rtsp.url("gate"), stall_timeout_s=2.0)) as (recorder,):
        recorded_s(recorder, 1.5)
        overwrite_beginning(staged(out)[0])
        until(lambda: "expected a recording that can be read back" in recorder.status().error, "it is told")
        assert recorder.status().segments == 0
        until(lambda: recorder.status().state == "recording", "it is tried again")
        recorded_s(recorder, 0.4)
    assert recorder.status().unreadable == 1
    assert "could not be read back and is not kept: nothing in it can be decoded" in caplog.text
    (numbers,) = clips(out).values()
    assert is_in_a_row(numbers, of=100)
    assert not staged(out)


def test_a_short_segment_that_cannot_be_read_back_is_not_kept_either(tmp_path, rtsp, caplog):
    out = tmp_path / "out"
    with recording(out, camera(rtsp.url("gate"))) as (recorder,):
        recorded_s(recorder, 1.5)
        overwrite_beginning(staged(out)[0])
    assert (recorder.status().segments, recorder.status().unreadable) == (0, 1)
    assert "could not be read back" in caplog.text
    assert not videos(out)
    assert not staged(out)


def test_what_a_killed_process_left_stays_where_the_disk_does_not_let_it_be_read(tmp_path, caplog):
    with RecordingFolder(tmp_path / "out") as folder:
        write_video(folder.stage("gate"), 5)
        left = failing_disk(folder.stage("gate"))
        (published,) = folder.salvage()
        assert published == folder.videos / "gate_0001.mkv"
        assert staged(tmp_path / "out") == [left]
        assert f"{left}: cannot be read to its end and stays for the next run: " in caplog.text


def test_a_segment_in_the_making_that_cannot_be_opened_is_reported_and_goes_on(tmp_path, rtsp, caplog):
    out = tmp_path / "out"
    with recording(out, camera(rtsp.url("gate"), stall_timeout_s=2.0)) as (recorder,):
        recorded_s(recorder, 1.5)
        with cannot_open_files():
            until(lambda: "segment" in caplog.text, "it is tried to be read back")
    assert "a segment is kept, though it could not be read back: Too many open files" in caplog.text
    assert (recorder.status().segments, recorder.status().unreadable) == (1, 0)
    (numbers,) = clips(out).values()
    assert is_in_a_row(numbers, of=100)


def test_a_segment_that_cannot_be_opened_at_its_end_waits_for_the_next_run(tmp_path, rtsp):
    out = tmp_path / "out"
    with (
        pytest.raises(RunError, match="cannot be kept: Too many open files"),
        contextlib.ExitStack() as until_it_has_ended,
        recording(out, camera(rtsp.url("gate"))) as (recorder,),
    ):
        recorded_s(recorder, 1.5)
        until_it_has_ended.enter_context(cannot_open_files())
    with RecordingFolder(out) as folder:
        assert folder.salvage() == [folder.videos / "gate_0001.mkv"]
    (numbers,) = clips(out).values()
    assert is_in_a_row(numbers, of=100)


def encrypted(video, interval_s):
    """A camera whose packets come without an end and say nothing of pictures: their slices are called layers."""
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets:
        at, content = data.index(bytes(packet), packet.pos), bytes(packet)
        while content:
            length = int.from_bytes(content[:4])
            data[at + 4] = data[at + 4] & 0xE0 | 20
            at, content = at + 4 + length, content[4 + length :]

    def send(write, wait):
        for start, end in itertools.pairwise([0, *(packet.pos for packet in packets[40:])]):
            write(data[start:end])
            if wait(interval_s):
                return

    return that_sends(send)


def test_a_camera_whose_packets_make_no_picture_in_time_is_reported_and_opened_anew(tmp_path):
    video = write_video(tmp_path / "camera.mkv", 1_000, gop=1_000, size_px=(64, 96))
    with (
        encrypted(video, interval_s=0.05) as url,
        recording(tmp_path / "out", camera(url, stall_timeout_s=0.3, read_timeout_s=2.0)) as (recorder,),
    ):
        until(lambda: "expected a picture within 0.3 s" in recorder.status().error, "it is told")
        until(lambda: recorder.status().reconnects >= 1, "it is tried again")
    assert recorder.failure is None
    assert not staged(tmp_path / "out")


def test_a_camera_that_sends_no_keyframe_that_can_be_decoded_is_reported(tmp_path):
    video = write_video(tmp_path / "camera.mkv", 1_000, gop=1_000, size_px=(64, 96))
    with (
        encrypted(video, interval_s=0.01) as url,
        recording(tmp_path / "out", camera(url, stall_timeout_s=20.0, read_timeout_s=2.0)) as (recorder,),
    ):
        until(lambda: "waiting for a keyframe" in recorder.status().error, "it is told")
        until(lambda: recorder.status().left_out >= 100, "no packet is held for ever")
    assert not staged(tmp_path / "out")


def test_a_camera_that_renews_its_picture_bit_by_bit_is_recorded_from_wherever_it_is_joined(tmp_path, http_folder):
    """Intra refresh: after the first one there are no keyframes, only points from which pictures recover."""
    folder, address = http_folder
    path = folder / "camera.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.options = {"crf": "12", "bf": "0", "x264-params": "intra-refresh=1:keyint=12:threads=1"}
        for number in range(80):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, (64, 96)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        second = [packet.pos for packet in container.demux(video=0) if packet.size][1]
    ts_packets = path.read_bytes()
    path.write_bytes(ts_packets[: 3 * 188] + ts_packets[second:])  # joined after its only keyframe
    with recording(tmp_path / "out", camera(f"{address}/camera.ts")) as (recorder,):
        until(lambda: recorder.status().segments >= 1, "it has come to the end")
    with open_source(str(videos(tmp_path / "out")[0]), (64, 96)) as source:
        numbers = [frame_number(frame.image) for frame in source]
    assert numbers == list(range(numbers[0], 80))
    assert len(numbers) >= 40


def test_a_webcam_that_sends_jpegs_is_recorded_and_another_size_begins_another_segment(tmp_path):
    with jpegs([(64, 96)] * 12 + [(48, 64)] * 12) as url, recording(tmp_path / "out", camera(url)) as (recorder,):
        until(lambda: recorder.status().segments >= 2, "both sizes are recorded")
    found = list(clips(tmp_path / "out").values())
    assert found[:2] == [list(range(12)), list(range(12, 24))]


def test_a_camera_that_answers_with_one_picture_is_recorded_in_one_segment_at_the_times_of_its_pictures(tmp_path):
    with (
        Snapshots(picture) as snapshots,
        recording(tmp_path / "out", camera(snapshots.url, sample_fps=50)) as (recorder,),
    ):
        recorded_s(recorder, 0.5)  # 25 pictures; at 25 per second they would be a second
    (numbers,) = clips(tmp_path / "out").values()
    assert numbers == list(range(len(numbers)))
    assert (recorder.status().segments, recorder.status().reconnects) == (1, 0)


def test_a_webcam_is_recorded_for_as_long_as_it_is_told_to_whatever_its_rate(tmp_path):
    """A picture every half second, of which FFmpeg would make 25 per second."""
    told, measured, sent_s = threading.Semaphore(2), threading.Event(), []

    def send(write, wait):
        for number in itertools.count():
            while not (told.acquire(timeout=0.01) or measured.is_set()):
                if wait(0.0):
                    return
            sent_s.append(time.monotonic())
            write(b"--cut\r\n\r\n" + jpeg(number))

    with (
        that_sends(send, content_type="multipart/x-mixed-replace; boundary=cut") as url,
        recording(tmp_path / "out", camera(url, read_timeout_s=5.0)) as (recorder,),
    ):
        until(lambda: recorder.status().recorded_bytes > len(jpeg(0)), "two pictures are recorded")
        before_s = recorder.status().recorded_s
        time.sleep(0.5)
        told.release()
        until(lambda: recorder.status().recorded_s > before_s, "another one is recorded")
        assert 0.49 <= recorder.status().recorded_s <= time.monotonic() - sent_s[0]
        measured.set()  # and it sends on, so that nobody waits for it in the end


def jpegs(sizes_px):
    """A webcam as many routers and printers have one: JPEGs one after the other over HTTP."""
    images = []
    for number, size_px in enumerate(sizes_px):
        buffer = io.BytesIO()
        Image.fromarray(numbered_frame(number, size_px)).save(buffer, "jpeg", quality=95)
        images.append(buffer.getvalue())

    def send(write, wait):
        for image in images:
            write(f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n".encode())
            write(image + b"\r\n")
        write(b"--frame--\r\n")

    return that_sends(send, content_type="multipart/x-mixed-replace; boundary=frame")


def test_a_model_can_be_trained_on_what_was_recorded(tmp_path, http_folder):
    from pipeline.training.train import train
    from tests.models_for_tests import tiny_config

    folder, address = http_folder
    write_video(folder / "camera.ts", 20, size_px=(64, 96))
    with recording(tmp_path / "out", camera(f"{address}/camera.ts", scene="yard")) as (recorder,):
        until(lambda: recorder.status().segments >= 2, "two segments are whole")
    dataset = open_dataset(tmp_path / "out", need="train")
    card = train(tiny_config(), dataset, tmp_path / "model")
    assert card.scenes == ("yard",)
    assert card.normal_fps == 25.0
    used = card.provenance.train_frames + card.provenance.holdout_frames
    assert 0.75 < used / (20 * recorder.status().segments) <= 1.0  # some beside what is held out serve neither part
