"""Joining a cluster that another process has started, from an installation that holds more than code."""

import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pipeline.sinks.parquet_reader import read_clip_scores
from tests.clusters import cluster
from tests.models_for_tests import TINY

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
CPUS = 2


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("owner"), cpus=CPUS) as running:
        yield running


@pytest.fixture
def installed(tmp_path):
    """The project as it lies in somebody's folder, with gigabytes and oddities of theirs in it."""
    folder = tmp_path / "site"
    for name in ("actors", "pipeline", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_cluster.py", folder)
    for name in ("runs/a.mp4", "models/mine.safetensors", "pipeline/models/mine.safetensors", "pipeline/core"):
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(50 * 2**30)
    (folder / "pipeline/.#types.py").symlink_to("somebody@their-machine.1234:1700000000")  # an editor's lock
    (folder / "pipeline/gone.py").symlink_to("nowhere.py")
    (folder / "pipeline/footage").symlink_to(folder)
    os.mkfifo(folder / "actors/pipe")
    with (folder / "actors/scorer.py").open("a") as file:
        file.write(f"\nwith open({str(tmp_path / 'imported.txt')!r}, 'a') as told:\n    told.write(__file__ + '\\n')\n")
    return folder


HELD = """
import sys, ray
ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)

@ray.remote
class Busy:
    def here(self):
        return True

busy = Busy.options(num_cpus=int(sys.argv[2])).remote()
print(ray.get(busy.here.remote()), flush=True)
sys.stdin.read()
"""


@contextmanager
def held(joined):
    """All that the cluster has is somebody else's, until the block ends."""
    command = [sys.executable, "-c", HELD, joined.address, str(CPUS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=joined.environment, **pipes) as other:
        assert other.stdout.readline() == "True\n"
        yield
        other.stdin.close()


def test_a_command_joins_a_cluster_waits_for_room_there_and_its_actors_run_its_code(
    trained, joined, installed, tmp_path
):
    config, run, elsewhere = tmp_path / "c.yaml", tmp_path / "run", tmp_path / "elsewhere"
    clip = trained.dataset.test[0]
    sections = {"output": {"folder": str(run)}, "cameras": [{"id": "film", "url": clip.url, "scene": clip.scene}]}
    config.write_text(yaml.safe_dump({**TINY, **sections}))
    elsewhere.mkdir()
    (elsewhere / "pipeline.py").write_text("raise ImportError('the wrong pipeline')")
    words = ["stream", "--config", str(config), "--model", str(trained.folder), "--address", joined.address]
    command = [sys.executable, str(installed / "run_cluster.py"), *words]
    environment = {name: value for name, value in joined.environment.items() if name != "RAY_AUTH_MODE"}  # it is asked
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with held(joined):
        running = subprocess.Popen(command, text=True, cwd=elsewhere, env=environment, **pipes)
        first = [running.stderr.readline() for _ in range(3)]
    out, err = running.communicate(timeout=120.0)
    assert running.returncode == 0, out + err
    wanted = "CPU free, and this run wants 1: actors wait until there is room\n"
    assert f"warning: the Ray cluster has 0 of {CPUS} {wanted}" in first

    assert read_clip_scores(run / "scores")["film"].index.size == clip.frame_count
    assert [path for path in (run, *run.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    imported = {Path(line) for line in (tmp_path / "imported.txt").read_text().splitlines()}
    (sent,) = {path.parents[1] for path in imported} - {installed}
    assert sent.is_relative_to(joined.folder.resolve())
    expected = {path.relative_to(ROOT) for name in ("actors", "pipeline") for path in (ROOT / name).rglob("*.py")}
    found = {path.relative_to(sent) for name in ("actors", "pipeline") for path in (sent / name).rglob("*.*")}
    assert {path for path in found if path.suffix != ".pyc"} == expected


TOLD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import ray
from actors.cluster import ray_cluster
from actors.ray_settings import authentication_reader, environment
from pipeline.errors import BadInputError

@ray.remote(num_cpus=0.1)
class Reader:
    def found(self):
        import actors.camera
        return actors.camera.__file__

def tell_of_joining():
    try:
        with ray_cluster(sys.argv[2]):
            print(json.dumps(ray.get(Reader.remote().found.remote())))
    except BadInputError as error:
        print(json.dumps(str(error)))
"""
MISMATCHED = """
authentication_reader()()
store, key = ray._raylet.GcsClient(address=sys.argv[2]), b"CLUSTER_METADATA"
kept = store.internal_kv_get(key, b"cluster", timeout=20)
for changed in ({"ray_version": "2.9.3"}, {"python_version": "3.9.18"}):
    store.internal_kv_put(key, json.dumps({**json.loads(kept), **changed}).encode(), True, b"cluster", timeout=20)
    tell_of_joining()
store.internal_kv_put(key, kept, True, b"cluster", timeout=20)
"""
SUBMITTED = """
job = {"runtime_env": {"working_dir": "/nowhere", "env_vars": {"A": "1"}}, "metadata": {"name": "ours"}}
with environment({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}):
    tell_of_joining()
"""


def told(joined, code, elsewhere=()):
    """What a process of its own said that joined a cluster; a command in front of it takes it to another place."""
    command = [*elsewhere, sys.executable, "-c", TOLD + code, str(ROOT), joined.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120.0, env=joined.environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_cluster_of_another_ray_or_python_is_not_joined_and_both_are_named(joined):
    ray_differs, python_differs = told(joined, MISMATCHED)
    for said, version in ((ray_differs, "Ray: 2.9.3"), (python_differs, "Python: 3.9.18")):
        assert said.startswith(f"--address {joined.address}: expected a Ray cluster that can be joined, got ")
        assert version in said
        assert f"Python: {sys.version.split()[0]}" in said
        assert "\n" not in said


def test_a_command_that_was_submitted_as_a_job_joins_with_its_own_code(joined):
    (path,) = map(Path, told(joined, SUBMITTED))
    assert path.is_relative_to(joined.folder.resolve())
    assert path.parts[-2:] == ("actors", "camera.py")


def test_a_machine_that_is_no_node_of_the_cluster_is_told_so_at_once(joined):
    other_machine = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]  # which does not see its processes
    try:
        subprocess.run([*other_machine, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine lets nobody hide processes: {error}")
    (said,) = told(joined, "tell_of_joining()", other_machine)
    expected = "expected this machine, where scorer and files will be, to be a node of the Ray cluster, got another "
    assert said.startswith(f"--address {joined.address}: {expected}")
