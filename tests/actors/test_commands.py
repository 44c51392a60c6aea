import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from actors.commands import replay_dataset, stream_cameras
from actors.control_socket import ask_run
from actors.plans import stream_plan
from actors.scorer import ScorerActor
from pipeline.camera_settings import AlertSettings
from pipeline.config_file import load_config
from pipeline.console.evaluation import evaluate_scores
from pipeline.datasets.base import Clip
from pipeline.errors import BadInputError, CheckpointError, VideoError
from pipeline.models.card import read_card, write_card
from pipeline.runtime.status import totals_line
from pipeline.sinks.locate import readable_redis
from pipeline.sinks.parquet import staging_folder
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts, read_scores, read_statuses
from pipeline.sinks.run_status import RunStatusWriter, read_run
from tests.actors.test_scorer import killed
from tests.alert_kinds import without_evidence
from tests.faults.live import live_config
from tests.models_for_tests import TINY
from tests.sinks.receiver import SECRET, Receiver
from tests.videos import audio_only, truncate, write_images, write_video

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("ray_session")


def consoles():
    return {"out": Console(file=io.StringIO(), width=200), "err": Console(file=io.StringIO(), width=200)}


def stream(trained, tmp_path, cameras, **sections):
    """Stream cameras (id to url) with the tiny model; gives the final status, the scores and what was printed."""
    path = tmp_path / "stream.yaml"
    listed = [{"id": name, "url": str(url)} if not isinstance(url, dict) else url for name, url in cameras.items()]
    settings = {**TINY, "cameras": listed, **sections, "output": {"folder": str(tmp_path / "run"), "maps": True}}
    path.write_text(json.dumps(settings))  # JSON is YAML
    shown = consoles()
    try:
        final = stream_cameras(load_config(path), path, trained.folder, duration_s=None, address=None, **shown)
    finally:
        stream.printed = shown["err"].file.getvalue() + shown["out"].file.getvalue()
    return final, read_clip_scores(tmp_path / "run" / "scores")


def replay(trained, out, dataset=None, **sections):
    path = out.parent / f"{out.name}.yaml"
    path.write_text(json.dumps({**TINY, **sections}))
    replay_dataset(load_config(path), path, dataset or trained.dataset, trained.folder, out, address=None, **consoles())
    return read_clip_scores(out)


def counts_by_camera(final):
    return {camera.camera_id: camera.counts for camera in final.cameras}


def test_every_frame_of_every_camera_is_scored_once_and_readable_in_redis_and_parquet(trained, tmp_path):
    clips = {clip.scene: clip for clip in trained.dataset.test}
    receiver = Receiver().start()
    webhook = {"kind": "webhook", "name": "pager", "url": receiver.url, "secret": SECRET}
    # There it is an hour later than UTC all year.
    where = {"time_zone": "Africa/Lagos"}
    cameras = {scene: {"id": scene, "url": str(clip.url), **where} for scene, clip in clips.items()}
    sensitive = next(iter(cameras.values()))
    sensitive["alerts"] = {"quantile": 0.6, "close_quantile": 0.4, "open_frames": 1, "open_s": 0.0, "close_s": 0.2}
    sensitive["alerts"]["cooldown_s"] = 0.0
    final, scores = stream(trained, tmp_path, cameras, sinks=[webhook])
    receiver.stop()
    budgeted = [scene for scene in clips if scene != sensitive["id"]]
    (said,) = [line for line in stream.printed.splitlines() if "thresholds are provisional" in line]
    assert all(scene in said for scene in budgeted)
    assert "not 1/day" in " ".join(stream.printed.split())
    for scene, clip in clips.items():
        counts = counts_by_camera(final)[scene]
        assert (counts.decoded, counts.scored, counts.dropped) == (clip.frame_count, clip.frame_count, {})
        assert scores[scene].index.tolist() == list(range(clip.frame_count))
    with readable_redis(tmp_path / "stream.yaml") as url:  # the run is over: a late reader
        statuses = read_statuses(url)
        for scene, clip in clips.items():
            entries = read_scores(url, scene, count=1000)
            assert [entry["index"] for entry in entries] == list(range(clip.frame_count))
            assert statuses[scene]["state"] == "finished"
            assert statuses[scene]["scored"] == clip.frame_count
            assert statuses[scene]["provisional"] == (scene in budgeted)
            assert re.fullmatch("[0-9a-f]{12}", statuses[scene]["thresholds"])
            assert {entry["thresholds"] for entry in entries} == {statuses[scene]["thresholds"]}
            assert scores[scene].threshold_versions == (statuses[scene]["thresholds"],)
        told, counts = list(read_alerts(url)), read_run(url)["alerts"]
    assert {counts["delivered"], counts["emitted"], counts["sinks"]["pager"]["delivered"]} == {len(told)}
    assert receiver.taken == [{key: value for key, value in alert.items() if key != "id"} for alert in told]
    alerts = [alert for alert in told if alert["camera_id"] is not None]
    ids = {alert["event_id"] for alert in alerts}
    assert sum(camera.scoring.events for camera in final.cameras) == len(ids) > 0
    for event_id in ids:
        kinds = without_evidence([alert["kind"] for alert in alerts if alert["event_id"] == event_id])
        assert kinds == ["new", *["update"] * (len(kinds) - 2), "end"]
    for alert in alerts:  # each explains itself
        began = datetime.fromisoformat(alert["started_local"])
        assert (began.timestamp(), str(began.tzinfo)) == (int(alert["started_at_s"]), "UTC+01:00")
        assert alert["thresholds"] == statuses[alert["camera_id"]]["thresholds"]
        assert 0.0 < alert["peak_p_value"] <= 1.0
        assert alert["peak_smoothed"] >= alert["threshold"]
        assert (alert["ended"] is None) == (alert["end_s"] is None)


def test_a_report_made_later_shows_the_events_that_were_told_in_redis(trained, tmp_path):
    sensitive = {"quantile": 0.6, "close_quantile": 0.4, "open_frames": 3, "smoothing_s": 0.2, "close_s": 0.2}
    scores = tmp_path / "out"
    replay(trained, scores, camera_defaults={"alerts": sensitive})
    with readable_redis(None) as url:
        alerts = [alert for alert in read_alerts(url) if alert["camera_id"] is not None]
    shutil.rmtree(scores / "_run")  # Redis may be gone when somebody evaluates
    evaluate_scores(scores, trained.dataset, AlertSettings(**sensitive), None, tmp_path / "report.html", **consoles())
    page = (tmp_path / "report.html").read_text()
    ended = {alert["event_id"] for alert in alerts if alert["kind"] == "end"}
    assert len(ended) >= 2
    assert ended == {alert["event_id"] for alert in alerts}
    table = page[page.index("<h2>Events") : page.index("<h2>Clips")]
    assert sorted(event_id for event_id in re.findall(r"<td[^>]*>([^<]*-[0-9]+-[0-9]+-[0-9]+)</td>", table)) == sorted(
        ended
    )
    assert sum(int(count) for count in re.findall(r"([0-9]+) events?</span>", page)) == len(ended)


def test_a_clip_scores_the_same_streamed_or_replayed_alone_or_together_in_any_order_and_batch_size(trained, tmp_path):
    together = replay(trained, tmp_path / "together")
    small = replay(trained, tmp_path / "small", runtime={**TINY["runtime"], "batch_frames": 1})
    backwards = trained.dataset.__class__("stc", trained.dataset.root, (), trained.dataset.test[::-1])
    other_order = replay(trained, tmp_path / "order", dataset=backwards, runtime={**TINY["runtime"], "batch_frames": 7})
    clip = trained.dataset.test[0]
    alone = replay(
        trained, tmp_path / "alone", dataset=trained.dataset.__class__("stc", trained.dataset.root, (), (clip,))
    )
    _, streamed = stream(trained, tmp_path, {"x": {"id": "x", "url": clip.url, "scene": clip.scene}})
    expected = together[clip.name]
    for found in (small[clip.name], other_order[clip.name], alone[clip.name], streamed["x"]):
        np.testing.assert_allclose(found.anomaly_score, expected.anomaly_score, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found.index, expected.index)
        assert found.paired.tolist() == [False] + [True] * (clip.frame_count - 1)
        assert found.threshold[0] == expected.threshold[0]
    for name, rows in together.items():
        np.testing.assert_allclose(other_order[name].anomaly_score, rows.anomaly_score, rtol=1e-4, atol=1e-4)


def test_cameras_that_cannot_be_read_get_a_line_each_and_the_others_go_on(trained, tmp_path):
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mp4").touch()
    write_video(tmp_path / "whole.mp4", 30)
    write_video(tmp_path / "cut.mp4", 60)
    truncate(tmp_path / "cut.mp4", fraction=0.6)
    bad = {
        "missing": tmp_path / "nowhere.mp4",
        "text": tmp_path / "text.mp4",
        "empty": tmp_path / "empty.mp4",
        "audio": audio_only(tmp_path / "audio.mp4"),
        "folder": tmp_path,
    }
    with pytest.raises(VideoError) as caught:
        stream(trained, tmp_path, {**bad, "whole": tmp_path / "whole.mp4", "cut": tmp_path / "cut.mp4"})
    lines = str(caught.value).splitlines()
    assert len(lines) == len(bad)
    for name in bad:
        assert any(name in line for line in lines)
    scores = read_clip_scores(tmp_path / "run" / "scores")
    assert scores["whole"].index.size == 30
    assert 0 < scores["cut"].index.size < 60
    printed, lost = " ".join(stream.printed.split()), 60 - scores["cut"].index.size
    assert f"{lost} of 60 frames that the file promises never came" in printed or (
        f"{lost - 1} of 60 frames that the file promises never came, 1 frames came damaged" in printed
    )


def wait_for(condition, longest_s=240.0):
    give_up_at = time.monotonic() + longest_s
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.05)


def endless(path):
    """A clip that no machine is through with before it is told to stop, however late that is; returns its frames."""
    times, frames = 400, 250
    write_video(path.with_suffix(".once.mp4"), frames)
    with av.open(path.with_suffix(".once.mp4")) as once, av.open(path, "w") as container:
        (video,) = once.streams
        stream = container.add_stream_from_template(video)
        packets = [packet for packet in once.demux(video) if packet.size]
        length = packets[-1].dts + packets[-1].duration - packets[0].dts
        for _ in range(times):
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
                packet.stream, packet.pts, packet.dts = video, packet.pts + length, packet.dts + length
    return times * frames


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "stop"])
def test_a_run_that_is_told_to_stop_scores_or_counts_what_was_decoded_and_closes_its_files(trained, tmp_path, how):
    frames = endless(tmp_path / "long.mp4")

    def scoring():
        try:
            with readable_redis(tmp_path / "stream.yaml") as url:
                return any(status["scored"] for status in read_statuses(url).values())
        except BadInputError:  # it has not started yet
            return False

    def stop_when_scoring():
        wait_for(scoring)
        if how == "stop":
            answers.append(ask_run(tmp_path / "run", {"do": "stop"}))
        else:
            os.kill(os.getpid(), how)

    answers = []
    asking = threading.Thread(target=stop_when_scoring, daemon=True)
    asking.start()
    final, scores = stream(trained, tmp_path, {"long": tmp_path / "long.mp4"})
    counts = counts_by_camera(final)["long"]
    assert 0 < counts.scored < frames
    assert counts.in_flight == 0
    assert counts.dropped.keys() <= {"shutdown"}
    asking.join(10.0)
    assert [answer["said"] for answer in answers] == ([totals_line(final.totals())] if how == "stop" else [])
    assert scores["long"].index.tolist() == list(range(counts.scored))
    assert not list(tmp_path.glob("run/.*staging/*"))


def test_a_model_of_another_encoder_is_refused_with_field_and_values(trained, tmp_path):
    model = {**TINY["model"], "encoder": {**TINY["model"]["encoder"], "name": "resnet18"}}
    with pytest.raises(CheckpointError, match=r"encoder.*resnet18.*mobilenetv3_small_050"):
        stream(trained, tmp_path, {"a": "x.mp4"}, model=model)


def test_rows_of_a_replay_that_was_killed_do_not_appear_in_the_next_one(trained, tmp_path):
    out, clip = tmp_path / "out", trained.dataset.test[0]
    killed = (
        "import os, sys; from fractions import Fraction; from pathlib import Path\n"
        "from pipeline.sinks.parquet import ParquetSink; from pipeline.types import FrameHeader, Score\n"
        "sink = ParquetSink(Path(sys.argv[1]), maps=False, rotate_s=60)\n"
        "header = FrameHeader(sys.argv[2], 0, 0, 0, Fraction(1, 10), 1000.0)\n"
        "sink.write([Score(header, 1.0, 1.0, 0.5, 2.0, 1001.0, 1.0)]); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(out), clip.name], check=False, cwd=ROOT)
    assert done.returncode == 9
    assert list(staging_folder(out).iterdir())
    only = trained.dataset.__class__("stc", trained.dataset.root, (), (clip,))
    scores = replay(trained, out, dataset=only)[clip.name]
    assert scores.index.tolist() == list(range(clip.frame_count))
    assert "old" not in scores.models


def test_folders_of_images_are_replayed_as_fast_as_the_training_footage_unless_more_is_known_of_them(trained, tmp_path):
    folder = str(write_images(tmp_path / "images", 5))
    unknown = Clip("unknown", trained.dataset.test[0].scene, folder, 5)
    clips = (unknown, replace(unknown, name="known", image_fps=12.5))
    model = Path(shutil.copytree(trained.folder, tmp_path / "model"))
    card = write_card(read_card(model).model_copy(update={"normal_fps": 24.0}), model)
    scores = replay(
        replace(trained, folder=model), tmp_path / "out", dataset=replace(trained.dataset, train=(), test=clips)
    )
    assert card.footage_fps == 24.0
    assert scores["unknown"].media_time_s == pytest.approx(np.arange(5) / 24.0)
    assert scores["known"].media_time_s == pytest.approx(np.arange(5) / 12.5)


def test_a_replay_warns_of_scenes_that_the_model_does_not_know(trained, tmp_path):
    clip = replace(trained.dataset.test[0], scene="roof")
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(TINY))
    dataset, shown = trained.dataset.__class__("stc", trained.dataset.root, (), (clip,)), consoles()
    replay_dataset(load_config(path), path, dataset, trained.folder, tmp_path / "out", address=None, **shown)
    assert f"warning: camera {clip.name}: the model knows no scene 'roof'" in shown["err"].file.getvalue()


def test_a_replay_into_a_filled_folder_is_refused(trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(BadInputError, match="expected an empty folder"):
        replay(trained, tmp_path / "out")


def test_a_stream_tells_its_terminal_of_the_run_that_was_killed_before_it_and_of_one_that_lives_beside_it(
    trained, redis_url, tmp_path
):
    folder, gate = tmp_path / "run", {"gate": trained.dataset.test[0].url}
    config = live_config(gate, folder, redis_url)
    abandoned = stream_plan(config, read_card(trained.folder), trained.folder, redis_url)
    killed(ScorerActor(abandoned))
    with RunStatusWriter(redis_url, "run-beside"):
        wait_for(lambda: read_run(redis_url) is not None)
        stream(trained, tmp_path, gate, redis={"url": redis_url})
    printed = " ".join(stream.printed.split())
    assert re.search(rf"run_lost run: [^│]* {abandoned.name}-", printed)
    assert "run_started" not in printed  # whoever sees this has started it
    assert "run_ended" not in printed
    assert "warning: redis.url" in printed
    assert "expected no other run in this Redis, but 'run-beside' on" in printed
