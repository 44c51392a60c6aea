from pathlib import Path
from typing import get_args

import pytest

from pipeline.alerts import AlertKind, NoticeKind
from pipeline.console.tables import alert_line
from pipeline.sinks.schema import alert_object, score_object
from tests.sinks.made import START_S, alert, notice, score

DOCUMENT = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [*get_args(AlertKind), *get_args(NoticeKind)])
def test_every_kind_is_documented(kind):
    assert f"`{kind}`" in DOCUMENT


@pytest.mark.parametrize(
    "made", [alert_object(alert(0)), alert_object(notice()), score_object(score(0))], ids=["alert", "notice", "score"]
)
def test_every_key_of_an_entry_is_documented(made):
    for key in made:
        assert f"`{key}`" in DOCUMENT


def test_what_every_entry_has_is_in_alerts_and_notices():
    assert {"version", "kind", "event_id", "camera_id", "emitted_at_s"} <= alert_object(alert(0)).keys() & alert_object(
        notice()
    ).keys()


def test_alerts_and_notices_are_shown_in_a_line():
    assert alert_line(alert_object(alert(1, "end"))).plain == (
        "end    gate  gate-1700000000000-0-0  from 1.5 s to 9.5 s  peak 1 (threshold 50.5)"
    )
    assert alert_line(alert_object(notice())).plain == (
        "camera_offline gate  gate-camera_offline-1700000000000  no frame for 10 s"
    )
    assert alert_line(alert_object(notice("storage_restored", camera_id=None, until_at_s=START_S))).plain == (
        "storage_restored run  run-storage_restored-1700000000000  no frame for 10 s  after 10 s"
    )


def test_a_kind_that_is_not_known_yet_is_shown_with_what_it_has():
    entry = {"id": "1-0", "version": 1, "kind": "weather", "event_id": "w-1", "camera_id": None, "emitted_at_s": 1.0}
    assert alert_line(entry).plain == "weather run  w-1"
