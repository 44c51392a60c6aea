"""What a camera process writes of events: a picture at once, and a clip when they are over, whole or not at all."""

import io
import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.alerts import Event, Region
from pipeline.camera_settings import CameraSettings
from pipeline.errors import BadInputError
from pipeline.evidence.retention import enforce
from pipeline.evidence.writer import EvidenceWriter
from pipeline.evidence_settings import EvidenceSettings
from pipeline.runtime.evidence import DesiredEvidence, EvidenceRequest, encoded_map
from pipeline.video.source import open_source
from tests.evidence.made import SIZE_PX, Clock, filled, shown_in
from tests.videos import frame_number, write_images, write_video

PLACE = "events/2026-11-26/gate/gate-1795633777101-0-50"
HEIGHT, WIDTH = 96, 128


def camera(url="rtsp://gate/main", **settings):
    return CameraSettings.model_validate({"id": "gate", "url": str(url), **settings})


def request(*, start=50, peak=55, end=None, session=0, stretches=1, fps=25, **changed):
    """Of an event whose frames have these numbers."""
    event = Event(
        event_id=f"gate-1795633777101-{session}-{start}",
        camera_id="gate",
        session=session,
        start_s=start / fps,
        end_s=None if end is None else end / fps,
        started_at_s=1795633777.1,
        peak_score=6.4,
        peak_at_s=1795633777.3,
        peak_index=peak,
        threshold=6.0,
        region=Region(0.0, 0.75, 0.25, 1.0),
        started_local="2026-11-26T20:09:37.101+01:00",
        stretches=stretches,
    )
    spot = np.zeros((8, 8), np.float16)
    spot[6:, :2] = 9.0
    shape, values = encoded_map(spot)
    made = EvidenceRequest(
        event, start / fps, peak / fps, event.region, is_final=end is not None, map_shape=shape, map_float16=values
    )
    return replace(made, **changed)


def made_writer(tmp_path, watched=None, **settings):
    clock = Clock()
    output = tmp_path / "run"
    output.mkdir(exist_ok=True)
    writer = EvidenceWriter(EvidenceSettings(**settings), output, tmp_path / "elsewhere", now=clock)
    return writer, writer.keeper(watched or camera()), clock


def answers(writer, *requests, number=1, here=True):
    writer.want(DesiredEvidence(number, requests, "state"), here=here)
    writer.step()
    report, _ = writer.report()
    assert report.number == number
    return {answer.name: answer for answer in report.answers}


def the_answer(writer, asked, **how):
    return answers(writer, asked, **how)[asked.name]


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("f") / "gate.mp4", 150, size_px=(HEIGHT, WIDTH), b_frames=2)


def number_in(jpeg):
    return frame_number(np.asarray(Image.open(io.BytesIO(jpeg)))[:HEIGHT])


def test_a_picture_is_there_while_the_event_lasts_and_both_when_it_is_over(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path, before_s=1.0)
    filled(footage, ring=ring)
    early = the_answer(writer, request())
    assert (early.picture, early.clip, early.why, early.is_final) == (f"{PLACE}/picture.jpg", None, "", False)
    picture = (tmp_path / "run" / early.picture).read_bytes()
    assert number_in(picture) == 55
    shown = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    assert shown.shape[1] == WIDTH and shown.shape[0] > HEIGHT
    with open_source(str(footage), (HEIGHT, WIDTH)) as source:
        plain = next(frame.image for number, frame in enumerate(source) if number == 55).astype(int)
    changed = np.abs(shown[:HEIGHT] - plain).max(axis=2)
    assert changed[76:94, 2:26].mean() > 25 > 10 > changed[60:, 60:].mean()  # where the map says, below the numbers
    late = the_answer(writer, request(peak=70, end=90), number=2)
    assert (late.picture, late.clip, late.why, late.is_final) == (early.picture, f"{PLACE}/clip.mp4", "", True)
    assert number_in((tmp_path / "run" / late.picture).read_bytes()) == 70
    numbers = [number for number, _ in shown_in(tmp_path / "run" / late.clip)]
    assert numbers[0] in range(16, 26)  # a keyframe a second before 50
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) and numbers[-1] >= 90
    about = json.loads((tmp_path / "run" / PLACE / "event.json").read_text())
    assert (about["event_id"], about["is_final"]) == ("gate-1795633777101-0-50", True)
    assert [path.name for path in (tmp_path / "run" / PLACE).parent.iterdir()] == ["gate-1795633777101-0-50"]
    writer.want(DesiredEvidence(3), here=True)
    writer.step()
    assert writer.report() == (replace(writer.report()[0], number=3, answers=()), ())


def test_a_clip_is_longer_than_what_stays_in_memory_and_ends_at_the_longest(tmp_path, footage):
    """The ring has room for half a second only, and the event lasts for four."""
    for longest_s, last in ((100.0, 149), (2.0, 110)):
        folder = tmp_path / f"{longest_s}"
        folder.mkdir()
        writer, ring, _ = made_writer(folder, before_s=0.2, longest_s=longest_s, ring_mb=0.02)
        tap = ring.connect()
        tap.begin_session(0)
        largest = 0
        with open_source(str(footage), SIZE_PX, tap=tap) as source:
            for number, _ in enumerate(source):
                largest = max(largest, ring.size)
                if number in range(55, 149, 4):
                    the_answer(writer, request(peak=52), number=number)
        assert 10_000 < largest <= 20_000 < filled(footage)[0].size / 2.5
        done = the_answer(writer, request(peak=52, end=149), number=1000)
        numbers = [number for number, _ in shown_in(folder / "run" / done.clip)]
        assert numbers[0] <= 45 and numbers == list(range(numbers[0], numbers[-1] + 1))
        assert abs(numbers[-1] - last) <= (0 if last == 149 else 13)
        assert number_in((folder / "run" / done.picture).read_bytes()) == 52


def test_the_clip_of_an_event_of_hours_is_not_taken_for_left(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path)
    filled(footage, ring=ring)
    the_answer(writer, request())
    (making,) = (tmp_path / "run" / PLACE).parent.glob(".*.clip-*")
    os.utime(making, (time.time() - 7200.0,) * 2)  # when its file was made; that it grows changes nothing
    the_answer(writer, request(peak=60), number=2)
    enforce(tmp_path / "run", time.time(), keep_s=1e9, keep_bytes=10**9)
    done = the_answer(writer, request(peak=60, end=90), number=3)
    assert (done.clip, done.why) == (f"{PLACE}/clip.mp4", "")


def test_a_peak_that_left_memory_is_taken_from_the_clip(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path, before_s=0.2, ring_mb=0.02)
    tap = ring.connect()
    tap.begin_session(0)
    with open_source(str(footage), SIZE_PX, tap=tap) as source:
        for number, _ in enumerate(source):
            if number in range(55, 149, 4):
                the_answer(writer, request(peak=52), number=number)
    done = the_answer(writer, request(peak=80, end=149), number=1000)
    assert number_in((tmp_path / "run" / done.picture).read_bytes()) == 80


def test_several_events_at_once_each_get_their_own(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path, before_s=0.5)
    filled(footage, ring=ring)
    asked = [request(start=start, peak=start + 3, end=start + 20) for start in (30, 60, 90)]
    asked.append(request(start=50, peak=112, end=130, stretches=2, begins_s=110 / 25))
    done = answers(writer, *asked)
    for one in asked:
        numbers = [number for number, _ in shown_in(tmp_path / "run" / done[one.name].clip)]
        assert set(range(round(one.begins_s * 25), round(one.event.end_s * 25) + 1)) <= set(numbers)
        assert number_in((tmp_path / "run" / done[one.name].picture).read_bytes()) == round(one.peak_s * 25)
    assert done[asked[-1].name].clip.startswith(f"{PLACE}-2/")


def test_an_event_of_a_session_that_ended_gets_its_clip_up_to_there(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path, before_s=1.0)
    filled(footage, ring=ring, session=0)
    filled(footage, ring=ring, session=1)
    done = the_answer(writer, request(start=130, peak=140, end=149))
    assert [number for number, _ in shown_in(tmp_path / "run" / done.clip)][-1] == 149


def test_where_no_packets_are_left_it_says_so_and_writes_nothing(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path)
    filled(footage, ring=ring, session=3)
    early = the_answer(writer, request())
    assert (early.picture, early.clip) == (None, None)
    lost = the_answer(writer, request(end=90), number=2)
    why = "no picture and no clip of it: its camera's packets are not kept any more, or never were"
    assert (lost.picture, lost.clip, lost.why) == (None, None, why)
    assert not (tmp_path / "run" / "events").exists()
    unknown = request(end=90)
    unknown = replace(unknown, event=replace(unknown.event, camera_id="other"))
    assert the_answer(writer, unknown, number=3).why == why


def test_a_process_that_comes_after_keeps_the_picture_of_the_one_before_and_says_what_is_lost(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path)
    filled(footage, ring=ring)
    early = the_answer(writer, request())
    after, _, _ = made_writer(tmp_path)
    assert the_answer(after, request(map_shape=None, map_float16="")).picture == early.picture
    done = the_answer(after, request(peak=80, end=90), number=2)
    assert (done.picture, done.clip) == (early.picture, None)
    assert done.why == "no clip of it: its camera's packets are not kept any more"
    assert number_in((tmp_path / "run" / done.picture).read_bytes()) == 55
    again, _, _ = made_writer(tmp_path)
    assert the_answer(again, request(peak=80, end=90)).picture == early.picture  # asked once more: nothing is redone


@pytest.mark.parametrize(("pictures", "clips"), [(True, False), (False, True)])
def test_only_what_is_wanted_is_kept(tmp_path, footage, pictures, clips):
    writer, ring, _ = made_writer(tmp_path, pictures=pictures, clips=clips)
    filled(footage, ring=ring)
    done = the_answer(writer, request(end=90))
    assert (done.picture is not None, done.clip is not None, done.why) == (pictures, clips, "")


@pytest.mark.parametrize("kind", ["seekable", "without times", "images"])
def test_of_a_file_evidence_is_cut_out_of_the_file_itself(tmp_path, kind):
    if kind == "images":
        url, fps = write_images(tmp_path / "images", 100, size_px=(HEIGHT, WIDTH)), 10
    else:
        name = "a.mkv" if kind == "seekable" else "a.h264"
        url, fps = write_video(tmp_path / name, 150, size_px=(HEIGHT, WIDTH)), 25
    writer, ring, _ = made_writer(tmp_path, camera(url), before_s=0.5)
    assert ring is None
    early = the_answer(writer, request(fps=fps))
    assert number_in((tmp_path / "run" / early.picture).read_bytes()) == 55
    done = the_answer(writer, request(fps=fps, end=80), number=2)
    numbers = [number for number, _ in shown_in(tmp_path / "run" / done.clip)]
    assert numbers[0] >= 30 and set(range(50, 81)) <= set(numbers) and numbers[-1] < 99


def test_what_was_written_on_another_node_is_handed_out_in_parts_and_nothing_else_is(tmp_path, footage):
    writer, ring, _ = made_writer(tmp_path)
    filled(footage, ring=ring)
    asked = request(end=90)
    done = the_answer(writer, asked, here=False)
    assert set(done.files) == {"picture.jpg", "clip.mp4", "event.json"}
    assert (done.picture, done.clip) == (f"{PLACE}/picture.jpg", f"{PLACE}/clip.mp4")
    assert not (tmp_path / "run" / "events").exists()
    clip = writer.part(asked.name, "clip.mp4", 0)
    assert len(clip) == done.files["clip.mp4"]
    assert writer.part(asked.name, "clip.mp4", 1000) == clip[1000:]
    assert writer.part(asked.name, "clip.mp4", len(clip)) == b""
    for name, file in ((asked.name, "../event.json"), ("other", "clip.mp4")):
        with pytest.raises(BadInputError, match="expected a file of an event that was recorded here"):
            writer.part(name, file, 0)
    answers(writer, number=2, here=False)
    assert not any(path.is_file() for path in (tmp_path / "elsewhere").rglob("*"))  # it is with who wanted it
    with pytest.raises(BadInputError):
        writer.part(asked.name, "clip.mp4", 0)


def test_the_packets_of_a_camera_that_was_removed_serve_for_its_last_event_and_go_then(tmp_path, footage):
    writer, ring, clock = made_writer(tmp_path)
    filled(footage, ring=ring)
    writer.release("gate")
    clock.now_s += 30.0
    assert the_answer(writer, request(end=90)).clip is not None
    clock.now_s += 31.0
    answers(writer, number=2)
    assert the_answer(writer, request(start=40, end=90), number=3).clip is None
    assert writer.keeper(camera()) is not ring
