"""What a local Ray is made of, each time in a process of its own: the tests' own Ray is running in this one."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from actors.ray_settings import _KNOWN_RAY as KNOWN_RAY

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
TOLD = """
import json, os, sys, time
from pathlib import Path
import psutil, ray
from actors.cluster import ray_cluster

def tell(**found):
    print(json.dumps(found), flush=True)

def processes():
    return psutil.Process().children(recursive=True)

def named(word):
    return [process for process in processes() if any(part.endswith(word) for part in process.cmdline())]

@ray.remote(num_cpus=0.1, max_restarts=-1, max_task_retries=-1)
class Actor:
    def token(self):
        return os.environ["RAY_AUTH_TOKEN"]
    def pid(self):
        return os.getpid()
"""


def python(code, folder=ROOT, before=(), **environment):
    """Run code in a folder, as a script of the checkout; what it told, one dictionary a line."""
    done = subprocess.run(
        [*before, sys.executable, "-c", f"import sys; sys.path[0] = {str(ROOT)!r}\n" + TOLD + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120.0,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


WITHOUT_SHARED_MEMORY = {
    "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
    "missing": "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9",
}


@pytest.mark.parametrize("how", WITHOUT_SHARED_MEMORY)
def test_a_ray_starts_and_keeps_objects_where_shared_memory_cannot_be_used(how):
    before = ["unshare", "--mount", "/bin/sh", "-c", f'{WITHOUT_SHARED_MEMORY[how]} && exec "$@"', "sh"]
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine lets nobody mount anything: {tried.stderr}")
    code = "with ray_cluster(): tell(found=len(ray.get(ray.put(bytes(2_000_000)))))"
    assert python(code, before=before) == [{"found": 2_000_000}]


def test_a_signal_that_comes_while_ray_starts_asks_the_command_to_end_as_at_any_other_time():
    code = """
import signal
from pipeline.signals import caught_signals
from ray._private import services
start = services.start_ray_process
def told_meanwhile(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    return start(*arguments, **options)
services.start_ray_process = told_meanwhile
with caught_signals() as signals, ray_cluster():
    tell(is_stopping=signals.is_stopping, answer=ray.get(ray.put("answer")))
"""
    assert python(code) == [{"is_stopping": True, "answer": "answer"}]


def test_every_local_ray_has_a_token_of_its_own_and_leaves_nothing_in_the_environment_or_the_home(tmp_path):
    code = """
before = dict(os.environ)
for _ in range(2):
    with ray_cluster():
        actor = Actor.remote()
        tell(token=ray.get(actor.token.remote()), here="RAY_AUTH_TOKEN" in os.environ)
added = {name for name, value in os.environ.items() if before.get(name) != value}
tell(added=sorted(added - {"RAY_USAGE_STATS_ENABLED", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT"}))  # Ray's own
"""
    first, second, after = python(code, HOME=str(tmp_path), RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="known")
    assert len({first["token"], second["token"], "known"}) == 3
    assert len(first["token"]) == 64
    assert after["added"] == []
    assert list(tmp_path.iterdir()) == []


def test_actors_import_this_project_whatever_lies_in_the_working_folder(tmp_path):
    for name in ("actors", "pipeline", "json"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('the wrong {name}')")
    code = """
@ray.remote(num_cpus=0.1)
class Reader:
    def found(self):
        import json, actors.camera, pipeline
        return [Path.cwd() in map(Path, sys.path), actors.camera.__file__, pipeline.__file__, json.__name__]

with ray_cluster():
    tell(found=ray.get(Reader.remote().found.remote()))
"""
    (told,) = python(code, folder=tmp_path)
    assert told["found"] == [False, str(ROOT / "actors/camera.py"), str(ROOT / "pipeline/__init__.py"), "json"]


def test_only_what_a_run_needs_is_started_and_actors_come_back_without_it():
    code = """
with ray_cluster():
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote())
    tell(names=[Path(part).name for process in processes() for part in process.cmdline()[:4]])
    os.kill(pid, 9)
    tell(restarted=ray.get(actor.pid.remote()) != pid)
"""
    names, restarted = python(code)
    assert {"gcs_server", "raylet", "idle_agent.py"} <= set(names["names"])
    assert names["names"].count("idle_agent.py") == 2
    assert not {"dashboard.py", "agent.py", "monitor.py", "log_monitor.py", "main.py"} & set(names["names"])
    assert restarted == {"restarted": True}


def test_idle_agents_end_with_their_raylet():
    code = """
with ray_cluster():
    agents = named("idle_agent.py")
    (raylet,) = [process for process in processes() if process.name() == "raylet"]
    raylet.kill()
    gone, alive = psutil.wait_procs(agents, timeout=10.0)
    tell(gone=len(gone), alive=len(alive))
    os._exit(0)  # with its raylet gone, Ray ends this process in its own way
"""
    assert python(code) == [{"gone": 2, "alive": 0}]


@pytest.mark.parametrize("name", ["Config", "AuthenticationTokenLoader"])
def test_a_ray_that_reads_its_token_in_another_way_is_refused_in_one_line_and_not_started(name):
    code = f"""
from pipeline.errors import RunError
del ray._raylet.{name}
try:
    with ray_cluster():
        tell(started=True)
except RunError as error:
    tell(said=str(error), processes=len(processes()))
"""
    (told,) = python(code)
    assert told["said"].startswith(
        f"expected Ray {KNOWN_RAY}, got {version('ray')}, which reads its token in another way"
    )
    assert name in told["said"]
    assert told["processes"] == 0


def test_the_range_of_rays_that_is_named_is_the_one_that_is_installed_from():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ray[default]{KNOWN_RAY}" in project["dependencies"]


def test_that_ray_keeps_its_processes_elsewhere_does_not_end_a_run():
    code = """
import sys
from actors.local_ray import dead_ray_processes
with ray_cluster():
    sys.modules["ray._private.worker"], module = None, sys.modules["ray._private.worker"]
    del ray._private.worker
    tell(dead=dead_ray_processes())
    sys.modules["ray._private.worker"] = ray._private.worker = module
"""
    assert python(code) == [{"dead": []}]


@pytest.mark.parametrize(
    "changed",
    [
        "del ray._raylet.RUNTIME_ENV_AGENT_PORT_NAME",
        "del node.Node.start_log_monitor",
        "builtins.__import__ = without_services",
    ],
)
def test_a_ray_with_other_names_starts_in_its_own_way_and_is_as_closed(changed):
    if "log_monitor" in changed:  # what starts it then is of another name
        changed = "node.Node.started = node.Node.start_log_monitor; del node.Node.start_log_monitor"
        changed += "; node.Node.start_ray_processes = renamed(node.Node.start_ray_processes)"
    code = f"""
import builtins, http.client, inspect, textwrap, urllib.error, urllib.request
from ray._private import node

whole = builtins.__import__

def without_services(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {{}}).get("__name__") == "actors.local_ray" and "services" in (fromlist or ()):
        raise ImportError("cannot import name 'services'")
    return whole(name, globals, locals, fromlist, level)

def renamed(function):
    source = textwrap.dedent(inspect.getsource(function)).replace("self.start_log_monitor()", "self.started()")
    exec(source, function.__globals__, found := {{}})
    return found[function.__name__]

{changed}
with ray_cluster():
    tell(works=ray.get(Actor.remote().pid.remote()) != os.getpid(), agents=len(named("idle_agent.py")))
    listeners = [c for p in processes() for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    tell(addresses=sorted({{c.laddr.ip.removeprefix("::ffff:") for c in listeners}}))
    refused = 0
    for listener in listeners:
        url = f"http://127.0.0.1:{{listener.laddr.port}}/api/job_agent/jobs/"
        try:
            request = urllib.request.Request(url, data=b'{{"entrypoint": "true"}}', method="POST")
            tell(ran=urllib.request.urlopen(request, timeout=5).read().decode())
        except urllib.error.HTTPError as error:
            refused += error.code == 401
        except (OSError, http.client.HTTPException):
            pass  # it does not speak HTTP
    tell(refused=refused)
"""
    works, addresses, refused = python(code)
    assert works == {"works": True, "agents": 0}
    assert addresses == {"addresses": ["127.0.0.1"]}
    assert refused["refused"] >= 1, "the agent that runs jobs is there, and asks for the token"


def test_sockets_find_a_place_where_the_path_of_the_temporary_folder_is_long(tmp_path):
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    code = """
with ray_cluster():
    tell(pid=ray.get(Actor.remote().pid.remote()), folder=ray._private.worker._global_node.get_session_dir_path())
"""
    (told,) = python(code, TMPDIR=str(folder))
    assert told["folder"].startswith(f"/tmp/cflow-stream-{os.getuid()}/ray-")
    assert not Path(told["folder"]).exists()
