"""The command line as a shell sees it: exit codes, one clear line per fault, no traceback."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run_cluster
from pipeline.sinks.run_lock import run_lock
from pipeline.sinks.run_status import RunStatusWriter
from tests.models_for_tests import TINY
from tests.sinks.made import wait_until
from tests.videos import write_video

ROOT = Path(__file__).parent.parent


def command(*arguments, cwd=ROOT, **environment):
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_cluster.py"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(done, *words):
    """Exit code 2 and exactly one line that holds all the words."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert str(word) in lines[0], lines[0]


def config_file(folder, **sections):
    path = folder / "c.yaml"
    path.write_text(json.dumps({**TINY, **sections}))
    return path


@pytest.mark.parametrize("name", [command.callback.__name__ for command in run_cluster.app.registered_commands])
def test_help_of_every_command_shows_a_real_example(name):
    done = command(name, "--help")
    assert done.returncode == 0
    assert f"cflow-stream {name}" in " ".join(done.stdout.split())
    assert "Example:" in done.stdout


def test_a_terminal_without_a_size_shows_everything():
    assert run_cluster.VERSION in command("--version", COLUMNS="0").stdout
    refused(command("configs", "nothing", COLUMNS="0"), "cameras.example.yaml")


def test_the_version_is_that_of_the_changelogs_newest_release():
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert command("--version").stdout == f"cflow-stream {newest[1]}\n"


def test_shipped_configs_are_listed_and_printed(tmp_path):
    names = command("configs", cwd=tmp_path).stdout.splitlines()
    for name in ("cameras.example.yaml", "encoders/convnext_tiny.yaml"):
        assert name in names
        assert command("configs", name, cwd=tmp_path).stdout == (ROOT / "configs" / name).read_text()
    refused(command("configs", "none.yaml"), "none.yaml", "demo.yaml")


def test_a_shell_completes_commands():
    shell = {"_CFLOW_STREAM_COMPLETE": "complete_bash", "COMP_WORDS": "cflow-stream st", "COMP_CWORD": "1"}
    code = "import sys, run_cluster; sys.argv = ['cflow-stream']; run_cluster.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **shell}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["stream", "status", "stop"]


def test_an_unknown_yaml_key_is_named(tmp_path):
    path = config_file(tmp_path, camera_default={})
    refused(command("train", "--config", path, "--data", tmp_path, "--out", tmp_path / "m"), path, "camera_default")


@pytest.mark.parametrize(
    ("arguments", "secret", "named"),
    [
        (("train", "--data", "none", "--out", "m"), "cameras redis", "none: expected"),
        (("replay", "--data", "none", "--model", "none", "--out", "s"), "cameras", "none: expected"),
        (("compare", "--data", "none", "--out", "c"), "cameras", "none: expected"),
        (("bench", "--model", "none"), "cameras redis", "none: expected"),
        (("record", "--out", "f"), "redis", "at least one live camera"),
        (("status",), "cameras", "with run.json"),
        (("alerts",), "cameras", "with run.json"),
        (("cameras", "list"), "cameras redis", "expected a run under way"),
        (("stop",), "cameras redis", "expected a run under way"),
        # What a command does need:
        (("stream", "--model", "none"), "cameras", "url: expected the environment variable SECRET"),
        (("record", "--out", "f"), "cameras", "url: expected the environment variable SECRET"),
        (("status",), "redis", "c.yaml: redis.url: expected the environment variable SECRET, got nothing"),
        (("alerts",), "redis", "c.yaml: redis.url: expected the environment variable SECRET, got nothing"),
    ],
)
def test_a_command_asks_for_the_secrets_that_it_needs_and_no_others(tmp_path, arguments, secret, named):
    path = config_file(
        tmp_path,
        cameras=[{"id": "gate", "url": "rtsp://me:${SECRET}@127.0.0.1:9/main" if "cameras" in secret else "x.mp4"}],
        redis={"url": "redis://:${SECRET}@127.0.0.1:9/0" if "redis" in secret else "embedded"},
        output={"folder": str(tmp_path / "run")},
    )
    done = command(*arguments, "--config", path, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr.splitlines()[0], done.stderr


def test_where_a_service_is_to_run_has_to_be_said_and_where_it_is_asked_in_one_way_only(tmp_path):
    path = config_file(tmp_path, cameras=[{"id": "gate", "url": "x.mp4"}])
    refused(command("stream", "--detach", "--config", path, "--model", "none"), "--detach: expected --address")
    for words in (("stop",), ("status",), ("cameras", "list")):
        refused(
            command(*words, "--config", path, "--address", "127.0.0.1:9"), "--address: expected it without --config"
        )


@pytest.mark.parametrize("arguments", [("evaluate", "--scores", "s", "--data"), ("bench", "--model")])
def test_a_path_that_the_system_refuses_is_named(arguments):
    refused(command(*arguments, "x" * 300), "xxx", "File name too long")


def test_a_training_folder_without_frames_is_named(tmp_path):
    (tmp_path / "training" / "videos").mkdir(parents=True)
    refused(command("train", "--config", config_file(tmp_path), "--data", tmp_path, "--out", tmp_path / "m"), tmp_path)
    assert not (tmp_path / "m").exists()


def test_a_folder_that_is_no_data_set_is_answered_with_where_to_get_one(tmp_path):
    done = command("train", "--config", config_file(tmp_path), "--data", tmp_path / "x", "--out", tmp_path / "m")
    assert done.returncode == 2
    assert str(tmp_path / "x") in done.stderr


def test_a_replay_of_a_folder_with_two_data_sets_names_both(tmp_path):
    one, other = tmp_path / "one" / "Test", tmp_path / "archive" / "other" / "testing"
    one.mkdir(parents=True)
    other.mkdir(parents=True)
    done = command(
        "replay", "--config", config_file(tmp_path), "--data", tmp_path, "--model", tmp_path / "m",
        "--out", tmp_path / "o",
    )  # fmt: skip
    refused(done, "expected one data set, got 2", f"{one.parent} (ucsd)", f"{other.parent} (stc)")


def test_files_are_not_recorded(tmp_path):
    path = config_file(tmp_path, cameras=[{"id": "a", "url": "x.mp4"}])
    refused(command("record", "--config", path, "--out", tmp_path / "out"), path, "at least one live camera")
    assert not (tmp_path / "out").exists()


def test_recording_into_a_folder_with_other_things_is_refused(tmp_path):
    path = config_file(tmp_path, cameras=[{"id": "a", "url": "rtsp://127.0.0.1:9/main"}])
    refused(command("record", "--config", path, "--out", tmp_path), tmp_path, "'c.yaml'")


def test_a_scene_too_long_to_name_recordings_after_is_refused(tmp_path):
    path = config_file(tmp_path, cameras=[{"id": "a", "scene": "x" * 60, "url": "rtsp://127.0.0.1:9/main"}])
    refused(command("record", "--config", path, "--out", tmp_path / "out"), "a: scene", "58")


def test_a_recording_of_nothing_says_why_without_the_password(tmp_path):
    cameras = [{"id": "a", "url": "rtsp://me:hush-hush@127.0.0.1:9/main"}, {"id": "b", "url": "film.mp4"}]
    path = config_file(tmp_path, cameras=cameras)
    done = command("record", "--config", path, "--out", tmp_path / "out", "--minutes", 0.01)
    assert done.returncode == 1
    assert "a (rtsp://***@127.0.0.1:9/main): expected a video stream, got Connection refused" in done.stderr
    assert "camera b: its url is a file" in done.stderr
    assert "hush-hush" not in done.stderr + done.stdout


def test_a_stream_without_a_model_says_where_to_name_one(tmp_path):
    path = config_file(tmp_path, cameras=[{"id": "a", "url": "x.mp4"}])
    refused(command("stream", "--config", path), "model_folder", "--model")


def test_a_stream_without_cameras_is_refused(tmp_path):
    refused(command("stream", "--config", config_file(tmp_path), "--model", tmp_path), "cameras")


def test_a_folder_without_a_model_is_named(tmp_path):
    path = config_file(tmp_path, cameras=[{"id": "a", "url": "x.mp4"}])
    refused(command("stream", "--config", path, "--model", tmp_path / "none"), tmp_path / "none")


def test_a_redis_that_nobody_answers_is_named_without_its_password(tmp_path, trained):
    path = config_file(
        tmp_path, cameras=[{"id": "a", "url": "x.mp4"}], redis={"url": "redis://:hush-hush@127.0.0.1:1/0"}
    )
    done = command("stream", "--config", path, "--model", trained.folder)
    refused(done, "redis", "127.0.0.1:1")
    assert "hush-hush" not in done.stderr + done.stdout


def test_check_ends_with_0_where_a_run_could_start_1_where_not_and_2_where_the_config_is_wrong(tmp_path, trained):
    write_video(tmp_path / "a.mp4", 5)
    sections = {"output": {"folder": str(tmp_path / "run")}, "redis": {"url": "embedded"}}
    film = {"id": "film", "url": "a.mp4", "scene": "roof"}
    down = {"id": "down", "url": "rtsp://viewer:hush-hush@127.0.0.1:9/main", "scene": "plaza"}

    def check(*cameras, json_too=True, model=("--model", trained.folder)):
        path = config_file(tmp_path, cameras=list(cameras), **sections)
        return command("check", "--config", path, *model, *(["--json"] if json_too else []))

    done = check(film)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(finding) == {"what", "state", "detail"} for finding in found)
    states = {finding["what"]: finding["state"] for finding in found}
    assert (states["config"], states["scenes"], states["camera film"]) == ("ok", "warning", "ok")
    assert not (tmp_path / "run").exists()
    done = check(film, down)
    assert done.returncode == 1
    states = {(f := json.loads(line))["what"]: f["state"] for line in done.stdout.splitlines()}
    assert [what for what, state in states.items() if state == "failed"] == ["camera down"]
    table = check(film, down, json_too=False)
    assert table.returncode == 1
    assert "camera down" in table.stdout
    assert "hush-hush" not in done.stdout + done.stderr + table.stdout + table.stderr
    done = check(film, model=())  # with which `stream` ends with 2
    states = {(f := json.loads(line))["what"]: f["state"] for line in done.stdout.splitlines()}
    assert (done.returncode, states["model"]) == (1, "failed")
    refused(check({**film, "url": "rstp://127.0.0.1/x"}), "cameras.film.url", "did you mean rtsp://?")
    refused(check(), "cameras: expected at least one camera")


@pytest.mark.server
def test_bench_names_cameras_and_bottleneck_in_one_json_line(tmp_path, trained):
    small = ("--config", config_file(tmp_path, runtime=TINY["runtime"]), "--video-size", "96x64", "--seconds", 0.1)
    done = command("bench", "--model", trained.folder, "--fps", 5, *small, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["cameras"] >= 0
    assert found["bottleneck"] in {"decode", "inference", "sinks"}
    assert set(found["cores_used"]) == set(found["cameras_alone"]) == {"decode", "inference", "sinks"}


def test_bench_refuses_what_it_cannot_read_in_one_line(tmp_path, trained):
    (tmp_path / "text.mp4").write_text("no video")
    refused(command("bench", "--model", trained.folder, "--video", tmp_path / "text.mp4"), tmp_path / "text.mp4")
    refused(command("bench", "--model", tmp_path / "none"), tmp_path / "none")
    refused(command("bench", "--model", trained.folder, "--video-size", "big"), "--video-size", "'big'")
    refused(command("bench", "--model", trained.folder, "--fps", 25, "--stream-fps", 5), "--fps", "25", "5")


def test_a_checkpoint_with_a_flipped_byte_is_refused(tmp_path, trained):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in trained.folder.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    damaged = bytearray((folder / "model.safetensors").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(damaged)
    path = config_file(tmp_path, cameras=[{"id": "a", "url": "x.mp4"}])
    refused(command("stream", "--config", path, "--model", folder), folder)


def test_alerts_without_any_run_says_what_to_do(tmp_path):
    refused(command("alerts", XDG_STATE_HOME=str(tmp_path)), "--config")


def test_the_first_line_of_a_status_is_the_runs_also_where_none_began(tmp_path, redis_url):
    config = config_file(tmp_path, redis={"url": redis_url})
    done = command("status", "--json", "--config", config)
    assert (done.returncode, done.stdout) == (1, '{"run": null}\n')
    with RunStatusWriter(redis_url, "run-1") as told:
        told.write("ended", {}, {"gate": {"camera_id": "gate"}})
    done = command("status", "--json", "--config", config)
    assert done.returncode == 0
    run, camera = map(json.loads, done.stdout.splitlines())
    assert (run["run"], camera["camera_id"]) == ("run-1", "gate")


def test_scores_that_are_not_there_are_named(tmp_path, trained):
    refused(command("evaluate", "--scores", tmp_path / "none", "--data", trained.dataset.root), tmp_path / "none")


def test_overwrite_deletes_only_what_this_program_wrote(tmp_path, trained):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    done = command(
        "replay", "--config", config_file(tmp_path), "--data", trained.dataset.root, "--model", trained.folder,
        "--out", tmp_path / "out", "--overwrite",
    )  # fmt: skip
    refused(done, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").exists()


_WITHOUT_RAY = """
import sys
import run_cluster
sys.argv[0] = "run_cluster.py"
try:
    run_cluster.main()
finally:
    assert "ray" not in sys.modules, "Ray was imported first"
"""


def test_a_second_run_into_a_folder_is_refused_before_ray_is_even_imported_and_nothing_is_deleted(tmp_path, trained):
    run, scores = tmp_path / "run", tmp_path / "scores"
    path = config_file(tmp_path, cameras=[{"id": "a", "url": "x.mp4"}], output={"folder": str(run)})
    replay = ("replay", "--data", trained.dataset.root, "--out", scores, "--overwrite")
    with run_lock(run), run_lock(scores / "_run"):
        for folder, words in ((run, ("stream",)), (scores / "_run", replay)):
            done = subprocess.run(
                [sys.executable, "-c", _WITHOUT_RAY, *map(str, words), "--config", path, "--model", trained.folder],
                capture_output=True, text=True, timeout=200, check=False, cwd=ROOT,
            )  # fmt: skip
            refused(done, f"{folder}: expected a folder that no run uses", f"(process {os.getpid()})")
            assert "Traceback" not in done.stderr
    assert (scores / "_run" / "run.lock").exists()


def test_a_demo_deletes_nothing_of_one_that_is_under_way(tmp_path):
    with run_lock(tmp_path / "demo" / "scores" / "_run"):
        refused(command("demo", "--out", tmp_path / "demo"), "expected a folder that no run uses")
    assert (tmp_path / "demo" / "scores" / "_run" / "run.lock").exists()


@pytest.mark.ray
def test_train_replay_evaluate_alerts_and_status_work_one_after_the_other(tmp_path, trained):
    config, state = config_file(tmp_path), {"XDG_STATE_HOME": str(tmp_path / "state")}
    data = shutil.copytree(trained.dataset.root, tmp_path / "footage")
    bad, beside = data / "training/videos/camera1_999.mp4", data / "testing/videos/notes.txt"
    write_video(bad, 1, size_px=(64, 96))
    beside.write_text("hello")
    model, scores, numbers = tmp_path / "model", tmp_path / "scores", tmp_path / "numbers.json"
    done = command("train", "--config", config, "--data", data, "--out", model)
    assert done.returncode == 0, done.stderr
    assert "RANDOM" in done.stderr  # random weights are said loudly
    for stage in ("features", "flows", "held-out scores"):  # a log says how it gets on
        assert re.search(rf"^{stage}: .*\(100 %\), took 0:", done.stderr, re.MULTILINE)
    assert done.stderr.startswith(f"passed over: {bad}: expected 2 frames or more that can be decoded, got 1\n")
    assert f"trained on 4 clips; passed over 1: {bad}: " in done.stdout
    done = command("replay", "--config", config, "--data", data, "--model", model, "--out", scores, **state)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"passed over: {beside}: ")
    assert f"passed over 1: {beside}: " in done.stdout
    done = command("evaluate", "--scores", scores, "--data", data, "--json", numbers)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"passed over: {beside}: ")
    assert f"passed over 1: {beside}: " in done.stdout
    found = json.loads(numbers.read_text())
    assert {"frame_auroc", "frame_auroc_macro", "pixel_auroc", "aupro", "frames", "scenes"} <= set(found)
    assert found["frames"] == sum(clip.frame_count for clip in trained.dataset.test)
    done = command("status", "--json", **state)
    assert done.returncode == 0  # it ended in good order
    run, *cameras = [json.loads(line) for line in done.stdout.splitlines()]
    assert (run["state"], run["is_alive"], run["scored"]) == ("ended", False, found["frames"])
    assert {camera["camera_id"] for camera in cameras} == {clip.name for clip in trained.dataset.test}
    assert all(camera["decoded"] == camera["scored"] for camera in cameras)
    done = command("alerts", "--json", **state)
    assert done.returncode == 0
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert set(kinds[1:-1]) <= {"new", "update", "evidence", "end"}


def test_who_follows_alerts_without_the_right_to_is_told_why_in_one_line_and_gets_them_once_allowed(tmp_path, server):
    admin, may = server.client(), ["ACL", "SETUSER", "writer", "on", ">hush-hush", "~cflow:*", "+@all"]
    admin.execute_command(*may, "-xread", "-get")
    admin.xadd("cflow:alerts", {"json": '{"kind": "new", "event_id": "gate-1", "emitted_at_s": 1}'})
    config = config_file(tmp_path, redis={"url": server.url.replace("unix://", "unix://writer:hush-hush@")})
    follow = [sys.executable, str(ROOT / "run_cluster.py"), "alerts", "--follow", "--json", "--config", str(config)]
    said, told = tmp_path / "stderr.txt", tmp_path / "stdout.txt"
    with said.open("w") as stderr, told.open("w") as stdout:
        follower = subprocess.Popen(follow, stdout=stdout, stderr=stderr)
    try:
        wait_until(lambda: len(said.read_text().splitlines()) == 2, 30.0)
        admin.execute_command(*may)
        wait_until(lambda: "gate-1" in told.read_text())
    finally:
        follower.kill()
        follower.wait(10)
    for line, about in zip(sorted(said.read_text().splitlines()), ("how the run stands", "cflow:alerts"), strict=True):
        assert about in line, line
        assert "permission" in line
    assert "hush" not in said.read_text()
