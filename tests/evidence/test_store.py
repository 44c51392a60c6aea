"""What is kept of events, where, and for how long."""

import json
import os
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts import Event, Region
from pipeline.errors import BadInputError
from pipeline.evidence.retention import KeptEvent, enforce, overdue
from pipeline.evidence.store import EventPlace, Stored, store, stored

EVENT = Event("gate-1795633777101-0-463", "gate", 0, 1.0, None, 2.0, 6.4, 3.0, 470, 6.0, Region(0.1, 0.2, 0.3, 0.4))
PLACE = EventPlace("2026-11-26", "gate", EVENT.event_id)


def test_an_event_is_kept_whole_and_replaced_whole_by_what_is_known_of_it_later(tmp_path):
    assert stored(tmp_path, PLACE) is None
    store(tmp_path, PLACE, EVENT, picture=b"early", clip=None, final=False)
    folder = "events/2026-11-26/gate/gate-1795633777101-0-463"
    assert stored(tmp_path, PLACE) == Stored(f"{folder}/picture.jpg", None, False)
    clip = tmp_path / "clip.mkv"
    clip.write_bytes(b"moving")
    store(tmp_path, PLACE, replace(EVENT, end_s=9.0), picture=b"late", clip=clip, final=True)
    assert stored(tmp_path, PLACE) == Stored(f"{folder}/picture.jpg", f"{folder}/clip.mkv", True)
    assert (tmp_path / folder / "picture.jpg").read_bytes() == b"late"
    about = json.loads((tmp_path / folder / "event.json").read_text())
    assert (about["end_s"], about["picture"], about["clip"]) == (9.0, f"{folder}/picture.jpg", f"{folder}/clip.mkv")
    assert [path.name for path in (tmp_path / folder).parent.iterdir()] == [EVENT.event_id]
    assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_half(tmp_path):
    store(tmp_path, PLACE, EVENT, picture=b"early", clip=None, final=False)
    with pytest.raises(OSError, match="No such file"):
        store(tmp_path, PLACE, EVENT, picture=b"late", clip=tmp_path / "missing.mp4", final=True)
    folder = PLACE.within(tmp_path)
    assert (folder / "picture.jpg").read_bytes() == b"early"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("date", "camera", "name"),
    [
        ("../..", "gate", "a"),
        ("2026-11-26", "..", "a"),
        ("2026-11-26", "gate/x", "a"),
        ("2026-11-26", "gate", "../../a"),
        ("2026-11-26", "gate", ".hidden"),
        ("2026-11-26", "gate", ""),
    ],
)
def test_no_id_leads_out_of_the_folder(date, camera, name):
    with pytest.raises(BadInputError, match="expected"):
        EventPlace(date, camera, name)
    with pytest.raises(BadInputError, match="expected"):
        EventPlace.of(f"events/{date}/{camera}/{name}/picture.jpg")
    assert EventPlace.of(str(PLACE.relative / "clip.mp4")) == PLACE


ages = st.lists(st.tuples(st.floats(0.0, 1e6), st.integers(0, 1000)), max_size=30)


@given(ages, st.floats(1.0, 1e6), st.integers(0, 10_000))
def test_the_oldest_go_and_no_more_than_must(tmp_path_factory, events, keep_s, keep_bytes):
    now_s = 2e6
    kept = [KeptEvent(f"{n}", now_s - age_s, size) for n, (age_s, size) in enumerate(events)]
    gone = overdue(kept, now_s, keep_s=keep_s, keep_bytes=keep_bytes)
    left = [event for event in kept if event not in gone]
    old = [event for event in left if now_s - event.written_at_s > 120.0]
    assert all(now_s - event.written_at_s <= keep_s for event in old)
    if old:
        assert sum(event.size for event in left) <= keep_bytes
    assert all(now_s - event.written_at_s > 120.0 for event in gone)
    assert [event.written_at_s for event in gone] == sorted(event.written_at_s for event in gone)
    for event in gone:
        upto = sum(o.size for o in kept if (o.written_at_s, o.path) >= (event.written_at_s, event.path))
        assert now_s - event.written_at_s > keep_s or upto > keep_bytes
    if old and gone:
        assert min(event.written_at_s for event in old) >= gone[-1].written_at_s


def test_what_is_overdue_is_deleted_with_the_folders_that_are_empty_then_and_nothing_else(tmp_path):
    now_s = time.time()
    places = [EventPlace(f"2026-11-0{day}", "gate", f"gate-{day}") for day in (1, 2, 3)]
    for number, place in enumerate(places):
        store(tmp_path, place, EVENT, picture=b"x" * 1000, clip=None, final=True)
        for path in place.within(tmp_path).iterdir():
            os.utime(path, (now_s - 86_400 * (3 - number),) * 2)
    making = places[0].within(tmp_path).parent / ".gate-9.part-abc"
    making.mkdir()
    (tmp_path / "events" / "elsewhere").symlink_to(tmp_path)
    assert enforce(tmp_path, now_s, keep_s=2.5 * 86_400, keep_bytes=10**9) == 1
    assert making.exists()  # somebody may be writing it
    assert enforce(tmp_path, now_s, keep_s=1e9, keep_bytes=2000) == 1
    assert not places[1].within(tmp_path).parents[1].exists()
    assert stored(tmp_path, places[2]) is not None
    assert enforce(tmp_path / "nowhere", now_s, keep_s=1.0, keep_bytes=1) == 0
