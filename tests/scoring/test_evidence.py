"""Which pictures and clips are wanted of events, and what is said of them."""

from dataclasses import replace

import numpy as np

from pipeline.alerts import Alert, Event, Notice, Region
from pipeline.runtime.evidence import EvidenceAnswer
from pipeline.scoring.evidence import EvidenceDesk, Moment, PeakFrame

EVENT = Event("gate-1000-2-40", "gate", 2, 8.0, None, 1000.0, 6.0, 1001.0, 45, 5.0, Region(0.0, 0.0, 0.5, 0.5))
MAP = np.arange(6, dtype=np.float16).reshape(2, 3)
PEAK = PeakFrame(2, 45, 9.0, MAP)
ID = EVENT.event_id


def alert(kind, **changes):
    return Alert(replace(EVENT, **changes), kind, 1.0)


def taken(desk, *alerts, media_s=9.5, peak=PEAK):
    return desk.take(alerts, {ID: Moment(media_s, peak)})


def written(name=ID, *, final=False, clip=None, **changes):
    return replace(EvidenceAnswer(name, final, f"events/d/gate/{name}/picture.jpg", clip), **changes)


def test_a_picture_is_wanted_once_an_event_is_open_and_a_clip_when_it_is_over():
    desk = EvidenceDesk()
    notice = Notice("camera_dark", "n", "gate", "why", 1.0, None, 1.0)
    assert taken(desk, notice, alert("new")) == [notice, alert("new")]
    (request,) = desk.requests
    assert (request.name, request.begins_s, request.peak_s, request.is_final) == (ID, 8.0, 9.0, False)
    assert request.region == EVENT.region and np.array_equal(request.peak_map, MAP)
    (told,) = desk.answer([written()], 5.0)
    picture = f"events/d/gate/{ID}/picture.jpg"
    assert (told.kind, told.event.picture, told.event.clip, told.emitted_at_s) == ("evidence", picture, None, 5.0)
    assert desk.answer([written()], 6.0) == []
    (request,) = desk.requests
    assert (request.is_answered, request.peak_map) == (True, None)  # a map is sent once
    (end,) = taken(desk, alert("end", end_s=12.0))
    assert (end.kind, end.event.picture) == ("end", picture)
    (request,) = desk.requests
    assert (request.is_final, np.array_equal(request.peak_map, MAP)) == (True, True)
    assert desk.answer([written()], 6.0) == []  # late
    (told,) = desk.answer([written(final=True, clip="events/c.mp4")], 7.0)
    assert (told.event.picture, told.event.clip, told.event.end_s) == (picture, "events/c.mp4", 12.0)
    assert (desk.requests, desk.saved(), desk.answer([written(final=True)], 8.0)) == ((), "", [])


def test_what_it_remembers_goes_on_in_another_process():
    desk = EvidenceDesk()
    taken(desk, alert("new"))
    desk.answer([written()], 5.0)
    after = EvidenceDesk(desk.saved())
    assert after.requests == desk.requests
    taken(after, alert("end", end_s=12.0), peak=None)  # its memory of the frame is gone, what was saved is not
    (request,) = after.requests
    assert (request.peak_s, np.array_equal(request.peak_map, MAP)) == (9.0, True)
    taken(after, alert("end", end_s=12.0, peak_index=99, peak_at_s=1003.5), peak=None)
    (request,) = after.requests
    assert (request.peak_s, request.peak_map) == (11.5, None)
    assert EvidenceDesk("something else").requests == ()


def test_a_stretch_that_follows_is_one_of_its_own_and_shows_its_own_peak():
    desk = EvidenceDesk()
    taken(desk, alert("new"), alert("end", end_s=10.0))
    again = alert("update", stretches=2)
    later = PeakFrame(2, 70, 14.0, MAP + 1)
    taken(desk, again, media_s=14.2, peak=later)
    first, second = desk.requests
    assert (first.name, first.is_final, second.name, second.is_final) == (ID, True, f"{ID}-2", False)
    assert (second.begins_s, second.peak_s, second.region) == (14.2, 14.0, None)
    assert np.array_equal(second.peak_map, MAP + 1)
    taken(desk, alert("end", stretches=2, end_s=16.0), media_s=18.0, peak=later)
    assert [request.begins_s for request in desk.requests] == [8.0, 14.2]


def test_what_is_lost_is_said_in_the_log_and_nowhere_else(caplog):
    desk = EvidenceDesk()
    taken(desk, alert("new"), alert("end", end_s=10.0))
    assert desk.answer([EvidenceAnswer(ID, True, why="no packets")], 5.0) == []
    assert [record.getMessage() for record in caplog.records] == [f"event {ID}: no packets"]
    assert desk.requests == ()


def test_a_flood_of_events_does_not_fill_the_memory(caplog):
    desk = EvidenceDesk()
    for number in range(205):
        desk.take([alert("new", event_id=f"gate-{number}")], {})
    assert [request.name for request in desk.requests] == [f"gate-{number}" for number in range(5, 205)]
    assert len(caplog.records) == 5
