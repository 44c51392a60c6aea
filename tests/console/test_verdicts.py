import pytest

from pipeline.console.verdicts import duration_s, said_of, verdict_line, verdict_on
from pipeline.errors import BadInputError
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_stream import RedisSink
from pipeline.sinks.run_store import RunStore
from tests.sinks.made import alert, notice
from tests.test_verdicts import on


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800.0), ("12h", 43_200.0), ("7d", 604_800.0), ("1.5w", 907_200.0), ("5s", 5.0)]
)
def test_durations_are_said_with_their_unit(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1y", "1e3d", "99999w", "7 d", "nand"])
def test_what_is_no_duration_is_answered_in_one_line(text):
    with pytest.raises(BadInputError, match="--for: expected a duration such as 30m, 12h, 7d or 2w"):
        duration_s(text)


def test_a_verdict_is_told_with_what_follows_from_it():
    assert said_of(on("confirmed")) == f"event {on().event_id}: confirmed; it is never taken for normal footage"
    assert said_of(on()).startswith(f"event {on().event_id}: dismissed; its like on camera gate is silent until 19")
    line = verdict_line(on().as_object()).plain
    assert "dismissed gate, its like silent until" in line
    assert line.endswith(on().event_id)


@pytest.mark.server
def test_the_newest_alert_of_an_event_is_judged_and_an_unknown_event_is_answered_with_the_newest_ones(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as url:
        store = RunStore(tmp_path / "run.sqlite", "run", ["redis"])
        sink = RedisSink(url, alerts=store.alerts("redis"))
        store.commit({}, [notice(), alert(0), alert(1)])
        sink.wake()
        assert sink.flush(30.0)
        sink.close()
        newest = alert(1).event
        verdict = verdict_on(url, newest.event_id, "dismissed", 1000.0, 60.0)
        assert (verdict.event_id, verdict.region, verdict.until_at_s) == (newest.event_id, newest.region, 1060.0)
        with pytest.raises(
            BadInputError, match=rf"event 'gone': expected one that .* \(the newest: .*{newest.event_id}"
        ):
            verdict_on(url, "gone", "dismissed", 1000.0, 60.0)
