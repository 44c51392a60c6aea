"""A scorer that is started anew: what it must know of cameras nobody told it of."""

import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from fractions import Fraction

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from actors.plans import stream_plan
from actors.scorer import ScorerActor
from pipeline.models.card import read_card
from pipeline.run_folder import RunFolder
from pipeline.runtime.messages import DesiredScorerState
from pipeline.runtime.slices import ScorerSlices
from pipeline.sinks.base import Sink, SinkSettings
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts
from pipeline.sinks.to_webhook import WebhookSinkSettings
from pipeline.types import FrameHeader, Prediction
from tests.faults.live import live_config
from tests.models.forging import read_values, write_values
from tests.sinks.made import wait_until
from tests.sinks.receiver import SECRET, Receiver

ALARMING = 1e9


@pytest.fixture
def plan(trained, redis_url, tmp_path):
    config = live_config({"gate": "rtsp://10.0.0.1/x", "yard": "rtsp://10.0.0.2/x"}, tmp_path / "run", redis_url)
    return stream_plan(config, read_card(trained.folder), trained.folder, redis_url)


def predictions(camera_id, first, count, session=0):
    return [
        Prediction(FrameHeader(camera_id, session, i, i, Fraction(1, 10), 1000.0 + i / 10, i), ALARMING)
        for i in range(first, first + count)
    ]


def killed(scorer):
    """What is left of a scorer that was killed is its store and its journal."""
    assert scorer.sinks["redis"].flush()
    scorer.sinks["redis"].close()
    scorer.store.close()
    scorer.sinks["parquet"].close()


def kinds(redis_url, camera_id):
    return [alert["kind"] for alert in read_alerts(redis_url) if alert["camera_id"] == camera_id]


def test_a_scorer_killed_at_the_very_end_still_ends_the_events_that_were_open(plan, redis_url):
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    killed(scorer)
    assert kinds(redis_url, "gate") == ["new"]
    assert ScorerActor(plan).close()[0] == []  # nobody tells it of cameras any more
    assert kinds(redis_url, "gate") == ["new", "end"]


def test_frames_of_a_camera_removed_while_the_scorer_was_away_are_taken_and_hold_up_nobody(plan, redis_url):
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    killed(scorer)
    scorer = ScorerActor(plan)
    gate, yard = plan.cameras
    scorer.configure(DesiredScorerState(2, (yard,), (gate,)))
    assert scorer.sinks["redis"].flush()
    assert kinds(redis_url, "gate") == ["new", "end"]
    assert scorer.add([*predictions("gate", 3, 2), *predictions("yard", 0, 1)])
    assert {name: status.scored for name, status in scorer.report().cameras.items()} == {"yard": 1, "gate": 5}
    assert scorer.close()[0] == []
    assert kinds(redis_url, "gate") == ["new", "end", "new", "end"]


def test_a_camera_removed_long_ago_is_no_longer_reported_holds_up_nobody_and_goes_on_with_its_counts(plan, redis_url):
    gate, yard = plan.cameras
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    scorer.configure(DesiredScorerState(2, (yard,)))
    assert set(scorer.report().cameras) == {"yard"}
    assert scorer.add([*predictions("gate", 3, 1), *predictions("yard", 0, 1)])  # of a detector that hung for long
    killed(scorer)
    scorer = ScorerActor(plan)
    assert not scorer.add(predictions("gate", 3, 1))  # nobody has told it yet who is who
    scorer.configure(DesiredScorerState(2, (yard,)))
    assert scorer.add([*predictions("gate", 3, 1), *predictions("yard", 1, 1)])
    scorer.configure(DesiredScorerState(3, (gate, yard)))
    assert scorer.add(predictions("gate", 4, 1))
    assert {name: status.scored for name, status in scorer.report().cameras.items()} == {"yard": 2, "gate": 4}
    assert scorer.close()[0] == []
    assert kinds(redis_url, "gate") == ["new", "end", "new", "end"]


def test_a_change_of_light_is_told_once_however_often_the_scorer_dies_and_ends_with_the_run(
    plan, trained, redis_url, tmp_path
):
    folder = shutil.copytree(trained.folder, tmp_path / "model")
    card = read_card(folder)
    common = {scene: [[0.0] * round(12 * card.normal_fps)] for scene in card.scenes}
    write_values(folder, {**read_values(folder), "normal_common": common})
    plan = replace(plan, card=read_card(folder))

    def bright(first, count):
        return [replace(p, anomaly_score=-99.0, common_surprise=9.0) for p in predictions("gate", first, count)]

    scorer = ScorerActor(plan)
    for first in range(0, 140, 20):  # the default of 10 s is over with frame 100
        scorer.configure(DesiredScorerState(1, plan.cameras))
        assert scorer.add(bright(first, 20))
        assert scorer.report().cameras["gate"].light_changed == (first >= 100)
        killed(scorer)
        scorer = ScorerActor(plan)
    assert kinds(redis_url, "gate") == ["light_changed"]
    assert scorer.close()[0] == []  # nobody has told it of the camera, and it knows nevertheless
    begun, over = [alert for alert in read_alerts(redis_url) if alert["camera_id"] == "gate"]
    assert (begun["since_at_s"], begun["until_at_s"]) == (1000.0, None)
    assert begun["event_id"] == over["event_id"]
    assert over["until_at_s"] > 1010.0


def test_all_detectors_run_the_model_as_the_first_one_asked_to_also_after_the_scorer_died(plan):
    first = {"precision": "bfloat16", "compiled": True, "why": "measured"}
    scorer = ScorerActor(plan)
    assert scorer.agree(first) == first
    assert scorer.agree({**first, "precision": "float32"}) == first
    killed(scorer)
    scorer = ScorerActor(plan)
    assert scorer.agree({**first, "compiled": False}) == first
    scorer.close()
    other = ScorerActor(replace(plan, name="another-run"))  # decides for itself
    assert other.agree({**first, "precision": "float32"})["precision"] == "float32"
    other.close()


def close_and_die(plan, sink):
    """In a process of its own: it is killed where it would close one of its sinks."""
    scorer = ScorerActor(plan)
    closed = scorer.store if sink == "store" else scorer.sinks[sink]
    closed.close = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    scorer.close()


@pytest.mark.parametrize("sink", ["parquet", "redis", "store"])
@pytest.mark.parametrize("successor", ["the same run", "the next run"])
def test_a_scorer_killed_after_it_said_that_the_run_is_over_leaves_nothing_to_be_said_of_it(
    plan, redis_url, sink, successor
):
    dying = multiprocessing.get_context("spawn").Process(target=close_and_die, args=(plan, sink))
    dying.start()
    dying.join(60.0)
    assert dying.exitcode == -signal.SIGKILL
    after = plan if successor == "the same run" else replace(plan, name="next")
    assert ScorerActor(after).close()[0] == []
    told = [alert for alert in read_alerts(redis_url) if alert["kind"].startswith("run_")]
    runs = 1 if after is plan else 2
    assert [alert["kind"] for alert in told] == ["run_started", "run_ended"] * runs
    assert len({alert["event_id"] for alert in told}) == runs


def test_a_scorer_that_is_asked_to_close_once_more_says_no_second_time_that_the_run_is_over(plan, redis_url):
    scorer = ScorerActor(plan)
    assert scorer.close()[0] == []
    assert scorer.close(failure="the run failed: its terminal is gone")[0] == []
    assert [alert["kind"] for alert in read_alerts(redis_url)] == ["run_started", "run_ended"]


def score_and_die(plan, started):
    """In a process of its own, all scorers of a run: with events open and alerts waiting, they are killed."""
    scorers = [ScorerActor(plan, number) for number in range(len(plan.scorers))]
    slices = ScorerSlices(plan.scorers)
    for scorer, name in zip(scorers, plan.scorers, strict=True):
        own = tuple(camera for camera in plan.cameras if slices.scorer_of(camera.id) == name)
        scorer.configure(DesiredScorerState(1, own))
        for camera in own:
            assert scorer.add(predictions(camera.id, 0, 5))
    started.put([scorer.report().alerts["waiting"] for scorer in scorers])
    started.close()
    started.join_thread()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 2)])
def test_a_run_with_another_number_of_scorers_ends_and_delivers_what_the_one_before_left_each_once(
    trained, server, tmp_path, before, after
):
    server.kill()  # what the run before says waits
    names = ("a", "g", "b", "yard")
    config = live_config(dict.fromkeys(names, "rtsp://10.0.0.1/x"), tmp_path / "run", server.url)

    def plan_of(count):
        runtime = config.runtime.model_copy(update={"scorers": count})
        changed = config.model_copy(update={"runtime": runtime})
        return stream_plan(changed, read_card(trained.folder), trained.folder, server.url)

    spawn = multiprocessing.get_context("spawn")
    started = spawn.Queue()
    dying = spawn.Process(target=score_and_die, args=(plan_of(before), started))
    dying.start()
    assert sum(started.get(timeout=120.0)) == len(names) + 1  # with run_started
    dying.join(60.0)
    assert dying.exitcode == -signal.SIGKILL
    plan = plan_of(after)
    scorers = [ScorerActor(plan, number) for number in range(after)]
    server.start()
    for scorer in scorers:
        wait_until(lambda s=scorer: s.maintain() or s.report().alerts["waiting"] == 0)
        assert scorer.close()[0] == []
    told = list(read_alerts(server.url))
    for name in names:
        assert [alert["kind"] for alert in told if alert["camera_id"] == name] == ["new", "end"]
    said = [alert["kind"] for alert in told if alert["camera_id"] is None]
    assert said == ["run_started", "run_lost", "run_started", "run_ended"]
    rows = read_clip_scores(plan.sinks.scores_folder)
    assert {name: rows[name].index.tolist() for name in rows} == {name: [0, 1, 2, 3, 4] for name in names}
    stores = sorted(path.name for path in tmp_path.glob("run/*.sqlite"))
    assert stores == sorted(RunFolder(tmp_path).store_file(number).name for number in range(after))


class InMemory(Sink):
    """Keeps what it is given."""

    def __init__(self, settings, context) -> None:
        self.context = context
        self.scores = []

    @property
    def alert_counts(self):
        return self.context.alerts.counts

    def write(self, scores) -> None:
        self.scores += scores


class InMemorySettings(SinkSettings):
    """The whole of another sink is this file."""

    kind: str = "memory"

    def open(self, context) -> InMemory:
        return InMemory(self, context)


def test_a_further_sink_gets_every_score_and_alert_at_its_own_pace_and_has_counts_of_its_own(plan, redis_url):
    plan = replace(plan, sinks=replace(plan.sinks, others=(InMemorySettings(),)))
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 5))
    assert scorer.sinks["redis"].flush()
    memory = scorer.sinks["memory"]
    assert [score.header.index for score in memory.scores] == [0, 1, 2, 3, 4]
    alerts = scorer.report().alerts
    assert alerts == {
        **{"emitted": 2, "delivered": 2, "withheld": 0, "dropped": 0, "waiting": 0},
        "sinks": {"memory": {"emitted": 2, "delivered": 0, "withheld": 0, "dropped": 0, "waiting": 2}},
    }
    assert [json.loads(alert.text)["kind"] for alert in memory.context.alerts.take()] == ["run_started", "new"]
    killed(scorer)
    scorer = ScorerActor(plan)
    queue = scorer.sinks["memory"].context.alerts
    queue.ack(queue.take())
    assert scorer.report().alerts["sinks"]["memory"]["delivered"] == 2
    _, alerts = scorer.close()
    assert (alerts["waiting"], alerts["sinks"]["memory"]["waiting"]) == (0, 2)  # "end" and "run_ended"


def test_a_scorer_killed_while_a_webhook_is_away_delivers_there_what_redis_has_long_had(plan, redis_url):
    receiver = Receiver().start()
    receiver.stop()
    settings = WebhookSinkSettings(url=SecretStr(receiver.url), secret=SecretStr(SECRET), retry_max_s=0.2)
    plan = replace(plan, sinks=replace(plan.sinks, others=(settings,)))
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    wait_until(lambda: any("nobody answers there" in trouble.text for trouble in scorer.report().troubles))
    killed(scorer)
    receiver.start()
    scorer = ScorerActor(plan)
    assert scorer.sinks["webhook"].flush()
    assert scorer.close()[0] == []
    told = [alert["kind"] for alert in receiver.taken]
    assert told == [alert["kind"] for alert in read_alerts(redis_url)] == ["run_started", "new", "end", "run_ended"]
    receiver.stop()


def test_events_withheld_for_a_digest_are_marked_in_redis_and_parquet_and_told_once_though_the_scorer_is_killed(
    plan, redis_url
):
    receiver = Receiver().start()
    settings = WebhookSinkSettings(
        url=SecretStr(receiver.url), secret=SecretStr(SECRET), digest_s=3600.0, notices=False, name="pager"
    )
    plan = replace(plan, sinks=replace(plan.sinks, others=(settings,)))
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    for session in range(2):
        assert scorer.add(predictions("gate", 3 * session, 3, session))
    assert scorer.sinks["pager"].flush()
    scorer.sinks["pager"].close()
    killed(scorer)
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    scorer.maintain()
    assert scorer.add(predictions("gate", 6, 3, 2))
    assert [alert["kind"] for alert in receiver.taken] == ["new", "end"]
    unwritten, alerts = scorer.close()
    assert unwritten == []
    (digest,) = [alert for alert in receiver.taken if alert["kind"] == "digest"]
    in_redis = [alert for alert in read_alerts(redis_url) if alert["camera_id"] == "gate"]
    assert [alert["withheld"] for alert in in_redis] == [[], [], *[["pager"]] * 4]
    assert digest["events"] == 2
    assert digest["highest"]["event_id"] in {alert["event_id"] for alert in in_redis[2:]}
    counts = alerts["sinks"]["pager"]
    assert counts == {"emitted": 9, "delivered": 3, "withheld": 6, "dropped": 0, "waiting": 0}
    rows = pq.read_table(plan.sinks.scores_folder, partitioning=None).to_pylist()
    assert {row["event_id"]: row["withheld"] for row in rows if row["event_id"]} == {
        alert["event_id"]: alert["withheld"] for alert in in_redis
    }
    receiver.stop()
