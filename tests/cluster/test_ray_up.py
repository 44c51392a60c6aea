"""``ray up`` for real, with the config that comes with the program: stream, lose a machine, ``ray down``."""

import json
import re
import secrets
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset
import pytest
import redis
import yaml

from pipeline.sinks.redis_reader import read_statuses
from tests.cluster.ray_up_lab import HEAD, HOSTS, ROOT, WORKERS, free_ports, ray_up_lab
from tests.faults.live import QUICK
from tests.models_for_tests import TINY
from tests.sinks.made import wait_until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("rsync"), reason="no rsync here"),
]

PASSWORD = secrets.token_urlsafe(24)
CAMERAS = ("door", "gate", "road", "yard")


@pytest.fixture
def lab():
    with ray_up_lab() as made:
        yield made


@pytest.fixture
def redis_with_password(tmp_path, redis_program):
    """Its address; on TCP, since it is for all machines."""
    (port,) = free_ports(1)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "", "--dir", tmp_path]
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    with subprocess.Popen([redis_program, *options], stdout=subprocess.DEVNULL) as server:
        wait_until(lambda: is_up(url))
        yield url
        server.kill()


def is_up(url):
    try:
        return redis.Redis.from_url(url).ping()
    except redis.ConnectionError:
        return False


def cluster_config(lab):
    """The shipped one; what is replaced is what is of this machine: addresses, ports, sizes, and what is installed."""
    text = subprocess.run(
        [sys.executable, ROOT / "run_cluster.py", "configs", "cluster/onprem.yaml"],
        check=True, capture_output=True, text=True, env=lab.environment,
    ).stdout  # fmt: skip
    config = yaml.safe_load(text)
    config["provider"] |= {"head_ip": HEAD, "worker_ips": list(WORKERS)}
    config["auth"] = {"ssh_user": "nobody"}
    installing = [command for command in config["setup_commands"] if "uv" in command]
    assert len(installing) == 3
    kept = [command for command in config["setup_commands"] if command not in installing]
    config["setup_commands"] = [f"ln -sfn {Path(sys.executable).parents[1]} ~/cflow/env", *kept]
    port, client_port = free_ports(2)
    ours = f"--node-ip-address=$NODE_IP --object-store-memory=100000000 --temp-dir={lab.root}/ray-$NODE_IP"
    for key, more in (
        ("head_start_ray_commands", f"--ray-client-server-port={client_port}"),
        ("worker_start_ray_commands", "--num-cpus=2"),
    ):
        stop, start = config[key]
        start = re.sub(r" --(?!port=)[\w-]*port=\d+| --dashboard-host=\S+", "", start).replace("6379", str(port))
        include = "--include-dashboard=false " if "--head" in start else ""
        start = start.replace("ray start ", f"flock -o {lab.root}/lock ray start {include}{ours} {more} ")
        config[key] = [stop, start]
    return config, f"{HEAD}:{port}"


def fill_folder(lab, trained, config, redis_url):
    """What ``file_mounts`` names, as the operator has it."""
    (lab.folder / "cluster.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "requirements.lock", lab.folder)
    (lab.folder / "dist").mkdir()  # of nothing is installed here: the nodes have this environment
    site = lab.folder / "site"
    shutil.copytree(trained.folder, site / "model")
    clips = trained.dataset.test
    for number, name in enumerate(CAMERAS):
        shutil.copy(clips[number % len(clips)].url, site / f"{name}.mp4")
    cameras = [
        {"id": name, "url": f"{name}.mp4", "loop": True, "scene": clips[number % len(clips)].scene}
        for number, name in enumerate(CAMERAS)
    ]
    sections = {
        "model_folder": "model",
        "camera_defaults": QUICK,
        "cameras": cameras,
        "runtime": {**TINY["runtime"], "cameras_per_process": 1, "spare_detectors": 0},
        "redis": {"url": "${REDIS_URL}"},
        "output": {"folder": str(lab.root / "state"), "rotate_s": 2},
    }
    (site / "cameras.yaml").write_text(yaml.safe_dump({**TINY, **sections}))
    own = {"REDIS_URL": redis_url, "GCS_REDIS_ADDRESS": redis_url.split("@")[1][:-2], "GCS_REDIS_PASSWORD": PASSWORD}
    (site / "environment").write_text("".join(f"{name}={value}\n" for name, value in own.items()))
    (site / "environment").chmod(0o600)
    lab.call("sh", "-c", "umask 077; ray get-auth-token --generate > /dev/null")


def test_ray_up_streams_over_all_machines_loses_one_without_losing_count_and_goes_down(
    lab, trained, redis_with_password
):
    config, address = cluster_config(lab)
    fill_folder(lab, trained, config, redis_with_password)
    lab.call("ray", "up", "-y", "--no-config-cache", "cluster.yaml")
    wait_until(lambda: all(lab.named(host, "raylet") for host in HOSTS), 120.0)
    for host in HOSTS:  # secrets came as closed as they were
        for secret in (".ray/auth_token", "cflow/site/environment"):
            assert stat.S_IMODE((lab.home(host) / secret).stat().st_mode) == 0o600
    assert redis.Redis.from_url(redis_with_password).keys("*cflow@*")  # where the head keeps its tables

    def on_head(command):
        return lab.call("ray", "exec", "--no-config-cache", "cluster.yaml", f"cflow-stream {command}")

    on_head(f"stream --detach --address {address} --config ~/cflow/site/cameras.yaml")

    def scored():
        statuses = read_statuses(redis_with_password)
        return {name: statuses[name]["scored"] if name in statuses else 0 for name in CAMERAS}

    def all_go_on(longest_s):
        before = scored()
        wait_until(lambda: all(count > before[name] + 5 for name, count in scored().items()), longest_s)

    all_go_on(150.0)
    detecting = [host for host in HOSTS if lab.named(host, "ray::DetectorActor")]
    assert detecting
    for host in detecting:  # the model came by itself
        assert list(lab.home(host).glob(".cache/cflow-stream/models/*/model.json"))
    lost = next(host for host in WORKERS if lab.named(host, "ray::CameraActor"))
    lab.lose(lost)
    all_go_on(90.0)

    on_head(f"stop --address {address}")
    told = on_head("status --json --config ~/cflow/site/cameras.yaml")
    run, *cameras = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert run["state"] == "ended"
    rows = (
        pyarrow.dataset.dataset(lab.root / "state" / "scores").to_table(["camera_id", "session", "index"]).to_pylist()
    )
    frames = {name: [(row["session"], row["index"]) for row in rows if row["camera_id"] == name] for name in CAMERAS}
    for camera in cameras:
        assert camera["in_flight"] == 0
        assert camera["decoded"] == camera["scored"] + sum(camera["dropped"].values())
        assert len(frames[camera["camera_id"]]) == len(set(frames[camera["camera_id"]])) == camera["scored"]
    assert sorted(frames) == sorted(camera["camera_id"] for camera in cameras) == list(CAMERAS)

    lab.call("ray", "down", "-y", "cluster.yaml")
    wait_until(lambda: not any(lab.named(host, "raylet") for host in HOSTS))
