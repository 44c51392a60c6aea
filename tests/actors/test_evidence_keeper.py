"""What a scorer's process does with pictures and clips: keeps those that may stay, and waits for those on their way."""

import os
import time
from dataclasses import replace

from actors.evidence_keeper import EvidenceKeeper
from pipeline.alerts import Event
from pipeline.evidence.store import EventPlace, store, stored
from pipeline.evidence_settings import EvidenceSettings
from pipeline.runtime.evidence import EvidenceAnswer
from pipeline.runtime.plan import EvidencePlan

DAY_S = 86_400.0


def made(folder, **settings):
    return EvidenceKeeper(EvidencePlan(EvidenceSettings(**settings), folder), enforces=True)


def test_it_deletes_by_days_and_by_gigabytes_as_the_settings_say(tmp_path):
    places = [EventPlace("2026-11-20", "gate", f"gate-{number}") for number in range(3)]
    event = Event("gate-0", "gate", 0, 1.0, None, 2.0, 6.4, 3.0, 470, 6.0)
    for days, place in zip((3.0, 2.0, 1.0), places, strict=True):
        store(tmp_path, place, event, picture=b"x" * 10_000, clip=None, final=True)
        for path in place.within(tmp_path).iterdir():
            os.utime(path, (time.time() - days * DAY_S,) * 2)
    made(tmp_path, keep_days=2.5)._enforce()
    assert [stored(tmp_path, place) is not None for place in places] == [False, True, True]
    made(tmp_path, keep_gb=0.000015)._enforce()
    assert [stored(tmp_path, place) is not None for place in places] == [False, False, True]


def test_an_answer_whose_files_are_elsewhere_waits_for_them_and_is_fetched_once(tmp_path):
    keeper = made(tmp_path)
    here = EvidenceAnswer("a", True, "events/2026-11-20/gate/a/picture.jpg")
    elsewhere = replace(here, name="b", files={"picture.jpg": 10}, process="run-cameras-0")
    for _ in range(3):  # asked for again and again until it is answered
        assert keeper.take([here, elsewhere]) == [here]
    assert keeper._asked.qsize() == 1
    assert keeper.arrived() == []


def test_what_leads_elsewhere_is_not_fetched_and_the_reason_is_told(tmp_path):
    keeper = made(tmp_path)
    odd = EvidenceAnswer("a", True, "events/2026-11-20/../a/picture.jpg", files={"picture.jpg": 10}, process="p")
    lost = keeper._fetched(odd)
    assert (lost.picture, lost.files) == (None, {})
    assert lost.why.startswith("no picture and no clip of it here: expected an id that can name a folder, got '..'")
    large = replace(odd, picture="events/2026-11-20/gate/a/picture.jpg", files={"run.sqlite": 10})
    assert "got 'run.sqlite' of 10 bytes" in keeper._fetched(large).why
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
