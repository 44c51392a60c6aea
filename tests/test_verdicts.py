import errno
import json
import os

import pytest

from pipeline.alerts import Region
from pipeline.errors import BadInputError
from pipeline.sinks.schema import alert_object
from pipeline.verdicts import DISMISSED_FOR_S, Verdict, VerdictFile, add_verdict, read_verdicts
from tests.sinks.made import alert

ALERT = alert_object(alert(0))


def on(verdict="dismissed", now_s=1000.0, **changes):
    return Verdict.on({**ALERT, **changes}, verdict, now_s)


def test_a_verdict_keeps_what_the_alert_says_of_its_event_and_how_long_it_holds():
    verdict = on(region={"left": 0.1, "top": 0.2, "right": 0.3, "bottom": 0.4}, zone="yard", peak_smoothed=7.0)
    assert (verdict.event_id, verdict.camera_id) == (ALERT["event_id"], ALERT["camera_id"])
    assert (verdict.region, verdict.zone, verdict.peak_smoothed) == (Region(0.1, 0.2, 0.3, 0.4), "yard", 7.0)
    assert (verdict.given_at_s, verdict.until_at_s) == (1000.0, 1000.0 + DISMISSED_FOR_S)
    assert on("confirmed").until_at_s is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peak_smoothed": "high"}, "peak_smoothed: .*got 'high'"),
        ({"region": {"left": 0.0}}, r"region\.top: "),
        ({"camera_id": None}, "camera_id: "),
    ],
)
def test_an_alert_of_somebody_else_is_answered_in_one_line(changes, said):
    with pytest.raises(BadInputError, match=said):
        on(**changes)


def test_the_newest_verdict_on_an_event_holds_and_the_file_is_this_users_alone(tmp_path):
    path = tmp_path / "run" / "verdicts.jsonl"
    assert read_verdicts(path) == {}
    for verdict in (on(), on("confirmed", 2000.0), on(event_id="gate-2-0-0")):
        add_verdict(path, verdict)
    assert read_verdicts(path) == {ALERT["event_id"]: on("confirmed", 2000.0), "gate-2-0-0": on(event_id="gate-2-0-0")}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["verdict"] for line in path.read_text().splitlines()] == [
        "dismissed",
        "confirmed",
        "dismissed",
    ]


def test_damaged_lines_cost_nobody_else_anything(tmp_path, caplog):
    path = tmp_path / "verdicts.jsonl"
    add_verdict(path, on())
    with path.open("ab") as file:
        file.write(b'\xff{"event_id": "torn')  # without its end: the machine went down
    add_verdict(path, on(event_id="gate-2-0-0"))
    assert set(read_verdicts(path)) == {ALERT["event_id"], "gate-2-0-0"}
    assert "line 2: expected a verdict" in caplog.text


def test_on_a_full_disk_nothing_is_said_and_nothing_torn(tmp_path, monkeypatch):
    path = tmp_path / "verdicts.jsonl"
    add_verdict(path, on())
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))  # there was room for so much
    with pytest.raises(BadInputError, match=r"verdicts\.jsonl: the verdict could not be kept: No space left"):
        add_verdict(path, on("confirmed"))
    assert path.read_bytes() == before

    def refuse(file, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(BadInputError, match="No space left on device"):
        add_verdict(path, on("confirmed"))
    assert path.read_bytes() == before


def test_whoever_looks_after_the_file_hears_of_a_change_once(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    file = VerdictFile(path)
    assert file.news() is None
    add_verdict(path, on())
    assert [verdict.verdict for verdict in file.news()] == ["dismissed"]
    assert file.news() is None
    add_verdict(path, on("confirmed"))
    assert [verdict.verdict for verdict in file.news()] == ["confirmed"]
    path.unlink()
    assert (list(file.news()), file.news()) == ([], None)
