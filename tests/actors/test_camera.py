"""A camera process without Ray: what it dispatches while cameras come and go."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from actors.camera import CameraActor
from pipeline.camera_settings import CameraSettings
from pipeline.runtime.messages import DesiredCameraState, TakeRequest
from pipeline.video.source import open_source
from tests.videos import write_video

SIZE_PX, GAP_S = (32, 48), 0.1


@pytest.fixture
def actor(tmp_path):
    made = CameraActor(SIZE_PX, GAP_S, 4, tmp_path / "counters", tmp_path / "quarantine")
    yield made
    made.stop()


@pytest.fixture
def files(tmp_path):
    """Two files, each longer than its buffer."""
    for name in ("gate", "yard"):
        write_video(tmp_path / f"{name}.mp4", 60)
    return [
        CameraSettings.model_validate({"id": name, "url": str(tmp_path / f"{name}.mp4"), "sample_fps": None})
        for name in ("gate", "yard")
    ]


def take_of(actor, camera_id, confirmed):
    """Take until a frame of a camera comes."""
    give_up_at = time.monotonic() + 20.0
    while True:
        assert time.monotonic() < give_up_at, f"no frame of {camera_id} came"
        batch = actor.take(TakeRequest("detector", "first", confirmed, 4, 0.1))
        if batch is not None and any(header.camera_id == camera_id for header in batch.headers):
            return batch


def test_a_file_that_was_removed_does_not_keep_the_others_from_being_read(actor, files):
    gate, yard = files
    actor.configure(DesiredCameraState(1, (gate, yard), consumer="detector"))
    take_of(actor, "gate", {})
    actor.configure(DesiredCameraState(2, (yard,), consumer="detector"))
    give_up_at = time.monotonic() + 20.0
    while actor.report().readers["gate"].state != "stopped":
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    actor.configure(DesiredCameraState(2, (yard,), consumer="detector"))  # releases it
    before = actor.report().readers["gate"]
    take_of(actor, "yard", {"gate": 4})  # what a detector goes on saying
    assert actor.report().readers["gate"] == before
    assert before.decoded == before.dispatched + sum(before.dropped.values())


def test_pairs_are_dispatched_again_and_set_aside_with_their_frames(actor, tmp_path):
    """A frame that is tried again is to score as it would have."""
    write_video(tmp_path / "a.mp4", 60)
    clip = CameraSettings.model_validate({"id": "gate.1", "url": str(tmp_path / "a.mp4"), "sample_fps": 5})
    taken = []
    for deaths in range(3):
        actor.configure(DesiredCameraState(1 + deaths, (clip,), consumer="detector", deaths=deaths))
        give_up_at = time.monotonic() + 20.0
        while len(taken) < 2 + deaths:
            assert time.monotonic() < give_up_at
            batch = actor.take(TakeRequest("detector", f"life {deaths}", {"gate.1": 1} if taken else {}, 1, 0.1))
            taken += [] if batch is None else batch.frames()
    first, *again = taken
    assert (first.header.serial, first.previous) == (0, None)
    with open_source(str(tmp_path / "a.mp4"), SIZE_PX, gap_s=GAP_S) as source:
        expected = list(source)[again[0].header.index].previous
    for frame in again:
        assert frame.header == again[0].header
        assert np.array_equal(frame.previous.luma, expected.luma)
        assert frame.previous.gap_s == pytest.approx(expected.gap_s)
    actor.configure(DesiredCameraState(4, (clip,), consumer="detector", deaths=3))
    (dropped,) = actor.take(TakeRequest("detector", "life 3", {"gate.1": 1}, 1, 0.1)).dropped
    kept = tmp_path / "quarantine" / f"gate.1-0-{dropped.header.index}"
    assert np.array_equal(np.load(f"{kept}.npy"), again[0].image)
    assert np.array_equal(np.load(f"{kept}-previous.npy"), expected.luma)
    assert json.loads(Path(f"{kept}.json").read_text())["gap_s"] == expected.gap_s


def test_frames_that_may_wait_for_others_come_as_a_full_batch(actor, files):
    actor.configure(DesiredCameraState(1, tuple(files), consumer="detector"))
    batch = actor.take(TakeRequest("detector", "first", {}, 8, 30.0, wait_s=30.0))
    assert len(batch) == 8


def test_files_are_paced_while_the_desired_state_says_so(actor, files):
    actor.configure(DesiredCameraState(1, tuple(files), consumer="detector", paced=True))
    captured_s, give_up_at = [], time.monotonic() + 60.0
    while actor.report().readers["gate"].state != "finished":
        assert time.monotonic() < give_up_at
        batch = actor.take(TakeRequest("detector", "first", {}, 8, 0.1))
        captured_s += [h.captured_at_s for h in batch.headers if h.camera_id == "gate"] if batch is not None else []
    assert captured_s[-1] - captured_s[0] > 1.0  # of 2.4 s of footage; unpaced it takes hundredths of a second


def test_a_file_that_is_paced_no_longer_is_read_as_fast_as_it_can_be(actor, tmp_path):
    write_video(tmp_path / "long.mp4", 60, fps=1)  # a minute of footage
    clip = CameraSettings.model_validate({"id": "long", "url": str(tmp_path / "long.mp4"), "sample_fps": None})
    actor.configure(DesiredCameraState(1, (clip,), consumer="detector", paced=True))
    take_of(actor, "long", {})
    actor.configure(DesiredCameraState(2, (clip,), consumer="detector", paced=False))
    give_up_at = time.monotonic() + 20.0
    while actor.report().readers["long"].state != "finished":
        assert time.monotonic() < give_up_at
        actor.take(TakeRequest("detector", "first", {}, 8, 0.1))


def test_a_camera_removed_long_ago_is_forgotten_with_its_counter_file_and_may_come_back(actor, files, tmp_path):
    def until_report(condition):
        give_up_at = time.monotonic() + 20.0
        while not condition(actor.report().readers):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    gate, yard = files
    actor.configure(DesiredCameraState(1, (gate, yard), consumer="detector"))
    take_of(actor, "gate", {})
    actor.configure(DesiredCameraState(2, (yard,), consumer="detector", forgotten=frozenset({"gate"})))
    until_report(lambda readers: set(readers) == {"yard"})  # once it has ended, without another desired state
    assert [path.name for path in (tmp_path / "counters").iterdir()] == ["yard"]
    actor.configure(DesiredCameraState(3, (gate, yard), sessions={"gate": 5}, consumer="detector"))
    (header, *_) = [h for h in take_of(actor, "gate", {}).headers if h.camera_id == "gate"]
    assert (header.session, header.serial) == (5, 0)


def test_a_live_camera_that_was_read_on_another_node_meanwhile_is_counted_anew_above_its_sessions(tmp_path):
    write_video(tmp_path / "gate.mp4", 60)
    gate = CameraSettings.model_validate({"id": "gate", "url": str(tmp_path / "gate.mp4"), "loop": True})

    def first_header(**counted):
        """Of a process that begins to read it, and dies."""
        made = CameraActor(SIZE_PX, GAP_S, 4, tmp_path / "counters", tmp_path / "quarantine")
        made.configure(DesiredCameraState(1, (gate,), consumer="detector", **counted))
        header = take_of(made, "gate", {}).headers[0]
        (reader,) = made.report().readers.values()
        assert reader.counter_id == header.counter_id
        made.stop()
        made._assigned["gate"].release()
        return header

    first = first_header(sessions={"gate": 3})
    again = first_header(sessions={"gate": 12}, counter_ids={"gate": first.counter_id})
    assert (again.session, again.counter_id) == (4, first.counter_id)
    assert again.serial > 0
    anew = first_header(sessions={"gate": 12}, counter_ids={"gate": "of another node"})
    assert (anew.session, anew.serial) == (12, 0)
    assert anew.counter_id != first.counter_id


def test_the_folder_of_its_counter_files_is_touched_so_that_no_other_run_takes_it_for_left(actor, files, tmp_path):
    actor.configure(DesiredCameraState(1, tuple(files), consumer="detector"))
    an_hour_ago_s = time.time() - 3600.0
    os.utime(tmp_path / "counters", (an_hour_ago_s, an_hour_ago_s))
    give_up_at = time.monotonic() + 20.0
    while (tmp_path / "counters").stat().st_mtime < an_hour_ago_s + 3500.0:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_a_camera_whose_counter_file_cannot_be_made_is_reported_and_read_once_it_can(
    actor, files, tmp_path, monkeypatch
):
    monkeypatch.setattr("actors.camera._RELEASE_WITHIN_S", 0.0)
    (tmp_path / "counters").write_text("in the way")
    actor.configure(DesiredCameraState(1, tuple(files), consumer="detector"))
    first, second = actor.report().troubles
    assert first.text.startswith("camera gate is not read: ")
    assert second.text.startswith("camera yard is not read: ")
    assert actor.report().readers == {}
    (tmp_path / "counters").unlink()
    take_of(actor, "gate", {})  # without another desired state
    assert actor.report().troubles == ()


def test_a_file_moved_between_living_detectors_and_then_in_two_dying_ones_is_not_set_aside(actor, files, tmp_path):
    def dispatched_to(consumer, incarnation, deaths):
        """The first frame that comes, which nobody confirms; whatever was set aside comes with it."""
        actor.configure(DesiredCameraState(1, tuple(files[:1]), consumer=consumer, deaths=deaths))
        give_up_at = time.monotonic() + 20.0
        while (batch := actor.take(TakeRequest(consumer, incarnation, {}, 1, 0.1))) is None:
            assert time.monotonic() < give_up_at
        return batch

    for consumer, incarnation, deaths in [("a", "a1", 0), ("b", "b1", 0), ("b", "b2", 1), ("a", "a1", 2)]:
        batch = dispatched_to(consumer, incarnation, deaths)
        assert ([header.serial for header in batch.headers], batch.dropped) == ([0], ())
    (dropped,) = dispatched_to("b", "b3", 3).dropped
    assert (dropped.header.serial, dropped.reason) == (0, "quarantined")
