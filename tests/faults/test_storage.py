"""A full disk under a scorer: it is told, scoring and Redis go on, and so it is when there is room again."""

import signal
from dataclasses import replace
from fractions import Fraction

import yaml

from actors.plans import stream_plan
from actors.scorer import ScorerActor
from pipeline.models.card import read_card
from pipeline.runtime.messages import DesiredScorerState
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts, read_scores
from pipeline.types import FrameHeader, Prediction
from tests.faults.live import QUICK, live_config
from tests.faults.test_signals import begin, other, until
from tests.models_for_tests import TINY
from tests.rtsp import RtspServer, require_rtsp, write_footage


def predictions(first, count):
    headers = [FrameHeader("gate", 0, i, i, Fraction(1, 10), 1000.0 + i / 10, i) for i in range(first, first + count)]
    return [Prediction(header, 0.0) for header in headers]


def test_a_full_disk_is_told_once_scoring_goes_on_and_its_end_is_told_even_by_another_process(
    disk, trained, redis_url, tmp_path
):
    config = live_config({"gate": "rtsp://10.0.0.1/x"}, tmp_path / "run", redis_url)
    plan = stream_plan(config, read_card(trained.folder), trained.folder, redis_url)
    plan = replace(plan, sinks=replace(plan.sinks, scores_folder=disk.folder / "scores", maps=False))
    scorer = ScorerActor(plan)
    assert not scorer.add(predictions(0, 1))  # before it was told what to do: to be sent again
    scorer.configure(DesiredScorerState(1, config.cameras))

    def notices():
        assert scorer.sinks["redis"].flush()
        return [alert for alert in read_alerts(redis_url) if alert["kind"].startswith("storage_")]

    assert scorer.add(predictions(0, 10))
    scorer.maintain()
    assert notices() == []
    disk.fill()
    for first in range(10, 60, 10):
        assert scorer.add(predictions(first, 10))
        scorer.maintain()
    (failing,) = notices()
    assert failing["kind"] == "storage_failing"
    assert "No space left" in failing["reason"]
    assert "No space left" in " ".join(trouble.text for trouble in scorer.report().troubles)
    assert len(read_scores(redis_url, "gate")) == 60
    scorer.sinks["redis"].close()  # what is left of a scorer that was killed is its store
    scorer.store.close()
    scorer.sinks["parquet"].close()
    disk.free()
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(2, config.cameras))
    assert scorer.add(predictions(50, 20))  # ten of them were acknowledged before
    scorer.maintain()
    _, restored = notices()
    assert (restored["kind"], restored["event_id"]) == ("storage_restored", failing["event_id"])
    assert scorer.report().cameras["gate"].scored == 70
    scorer.close()
    rows = read_clip_scores(disk.folder / "scores")["gate"].index.tolist()
    assert rows == sorted(set(rows))
    assert set(range(60, 70)) | set(range(10)) <= set(rows)


def test_a_run_on_a_full_disk_says_so_in_its_status_while_it_lasts(disk, trained, redis_url, tmp_path):
    require_rtsp()
    with RtspServer({"gate": write_footage(tmp_path / "a.mp4")}) as cameras:
        config, log = tmp_path / "cameras.yaml", tmp_path / "stderr.txt"
        listed = [{"id": "gate", "url": cameras.url("gate"), "scene": "plaza"}]
        output = {"folder": str(disk.folder), "maps": False, "rotate_s": 1}
        sections = {"camera_defaults": QUICK, "output": output, "redis": {"url": redis_url}, "cameras": listed}
        config.write_text(yaml.safe_dump({**TINY, **sections}))
        running = begin(config, trained.folder, log)

        def shown(*words):
            return " ".join(other("status", *words, config=config).stderr.split())

        def kinds():
            return [alert["kind"] for alert in read_alerts(redis_url) if alert["kind"].startswith("storage_")]

        try:
            until(lambda: "dismiss gate-" in log.read_text(), "the camera is scored")
            assert "No space left" not in shown()
            disk.fill()
            until(lambda: kinds() == ["storage_failing"], "it is told")
            until(lambda: "No space left" in shown(), "the status says so")
            disk.free()
            until(lambda: kinds() == ["storage_failing", "storage_restored"], "its end is told")
            until(lambda: "No space left" not in shown(), "the status no longer says so")
            running.send_signal(signal.SIGTERM)
            assert running.wait(30.0) == 0
        finally:
            running.kill()
