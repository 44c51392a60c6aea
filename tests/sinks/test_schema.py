from pathlib import Path
from typing import get_args

import pytest

from pipeline.alerts import AlertKind, NoticeKind
from pipeline.sinks.schema import alert_object, score_object
from tests.sinks.made import alert, notice, score

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
