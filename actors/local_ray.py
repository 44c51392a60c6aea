"""A Ray on this machine that nobody else can reach, and of which only those parts run that a run needs.

What listens, listens on loopback and answers only to whoever shows a token that is drawn anew for every start. Ray has
no public setting for the first of these, nor for leaving its extras out, so names of its own are replaced while it
starts, and put back then; the address is looked at afterwards. ``SECURITY.md`` says what listens where.

Left out are:

- the dashboard's server, which starts even where no dashboard is wanted, and its agent, which runs jobs that come by
  HTTP: ``status`` and Redis say how a run stands;
- the runtime environment's agent (HTTP, too): no actor of a local run has an environment of its own;
- the autoscaler's monitor: there is one machine;
- the log monitor: it copies what actors print to the terminal, and ``log_to_driver`` is off.

Beside another run, whose pages they shared, these five took 329 MB (PSS): agents 146, dashboard 84, monitors 99
(``benchmarks/results/footprint-before-2026-11-25-8f681ec8ebff.json``). In a trial they were four fifths of the time
until Ray had started.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
import ray._raylet
from ray.job_config import JobConfig

from actors.ray_settings import authentication_reader, environment
from pipeline.errors import BadInputError, RunError
from pipeline.files import require_writable
from pipeline.locked_folder import locked_folder
from pipeline.private_folder import folder_for_sockets

_log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parent.parent
_LOOPBACK = "127.0.0.1"
_SHARED_MEMORY = Path("/dev/shm")
_OBJECT_STORE_BYTES = 400 * 2**20  # one request in flight per camera process: far above what can be in use
_INLINE_BYTES = 1_000_000
_LONGEST_SOCKET_NAME = "ray-01234567/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_NO_PORT = -1
_raylet: Any = ray._raylet  # compiled, and without types

Replacement = tuple[object, str, object]
"""An object, the name of an attribute, and what is put there."""


class _OwnCode(JobConfig):
    """Where actors import the project from: the place where this process found it.

    Left to itself, Ray has actors look into the working folder first, before the standard library even: whoever starts
    a run in a folder with a ``pipeline`` of its own would run that one's code.
    """

    def __init__(self) -> None:
        super().__init__()
        installed = Path(sysconfig.get_path("purelib")).resolve() == _ROOT  # every interpreter looks there by itself
        self._py_driver_sys_path = [] if installed else [str(_ROOT)]

    def _runtime_env_has_working_dir(self) -> bool:
        """What keeps Ray from adding the folders of script and command; a Ray that does not ask for it adds them."""
        return True


@contextmanager
def local_ray(**options: Any) -> Iterator[None]:
    """Start a Ray that ends with the block, and leaves nothing behind.

    Args:
        options: more for ``ray.init``.

    Raises:
        RunError: it did not start, or would be open to others.
    """
    read_authentication_anew = authentication_reader()
    with locked_folder(f"ray-{secrets.token_hex(4)}", inside=folder_for_sockets(_LONGEST_SOCKET_NAME)) as folder:
        try:
            _start(folder, read_authentication_anew, options)
            yield
        finally:
            ray.shutdown()
            read_authentication_anew()


@contextmanager
def signals_left_alone() -> Iterator[None]:
    """Keep Ray's start in the block from taking SIGTERM for itself.

    One that came meanwhile would end the process in the middle of Ray's own code, undrained and by a crash. A Ray that
    has another name for it takes the signal while it starts.
    """
    try:
        from ray._private import utils

        taken: list[Replacement] = [(utils, "set_sigterm_handler", lambda _: None)]
        _ = utils.set_sigterm_handler
    except (AttributeError, ImportError):
        taken = []
    with _replaced(taken):
        yield


def dead_ray_processes() -> list[str]:
    """Which of the processes died that make up the Ray that this process started; empty for one that it joined.

    Ray starts neither of them again, and without them no actor comes back. A Ray that has another name for it is never
    told to be dead here; the supervisor notices then that nobody comes back.
    """
    try:
        from ray._private import worker

        node = getattr(worker, "_global_node", None)
        return [] if node is None else [str(kind) for kind, _ in node.dead_processes()]
    except (AttributeError, ImportError):
        return []


def _start(folder: Path, read_authentication_anew: Callable[[], None], options: Mapping[str, Any]) -> None:
    # The token is in memory only, that of this user's processes. It is in no file, on no command line and not in what
    # this process passes to others than Ray's.
    with environment(_settings(secrets.token_hex(32))), _replaced(_on_loopback()), _replaced(_left_out()):
        read_authentication_anew()
        try:
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                job_config=_OwnCode(),
                _temp_dir=str(folder),
                _plasma_directory=None if _has_shared_memory() else str(folder),
                **options,
            )
        except Exception as error:  # ray raises many kinds here, a full disk or a taken port among them
            raise RunError(f"Ray did not start on this machine: {' '.join(str(error).split())}") from error
    if (address := ray.util.get_node_ip_address()) != _LOOPBACK:
        raise RunError(f"expected Ray to listen on {_LOOPBACK} only, got {address} (Ray {ray.__version__})")


def _has_shared_memory() -> bool:
    """Whether Ray's objects can lie where it wants them to; it would not start, or not say why for half a minute.

    One that is too small for them Ray notices by itself.
    """
    try:
        return sys.platform != "linux" or require_writable(_SHARED_MEMORY) == _SHARED_MEMORY
    except BadInputError:
        return False


def _settings(token: str) -> dict[str, str]:
    """The environment in which Ray's processes start."""
    return {
        # Ray gives its workers the lowest priority; beside any busy process they would then fall behind the cameras.
        "RAY_worker_niceness": "0",
        # A record of every call, for a dashboard that is not there; it would grow with every call for hours.
        "RAY_task_events_report_interval_ms": "0",
        # Answers up to this size come with the message instead of through the object store, whose bookkeeping costs
        # more than copying them: for one frame at a time, a fifth of all CPU time that is not decoding or the model.
        "RAY_max_direct_call_object_size": str(_INLINE_BYTES),
        # How long a call to a dead actor waits to learn of its death, and how often calls that failed are looked
        # after. With Ray's own second for each, a death was noticed after 1.1 to 1.3 s in a trial, with these after
        # 0.2 s.
        "RAY_timeout_ms_task_wait_for_death_info": "100",
        "RAY_core_worker_internal_heartbeat_ms": "100",
        # Nobody reads Ray's own metrics where there is no dashboard.
        "RAY_enable_metrics_collection": "0",
        **{name: value for name, value in os.environ.items() if name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # for Ray's processes what `_on_loopback` is for this one
    }


@contextmanager
def _replaced(replacements: list[Replacement]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, value in replacements:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _on_loopback() -> list[Replacement]:
    """Where a cluster of several machines is out of the question, as by default on macOS, Ray stays on loopback."""
    try:
        from ray._private import ray_constants
    except ImportError:
        return []
    return [(ray_constants, "ENABLE_RAY_CLUSTER", False)] if hasattr(ray_constants, "ENABLE_RAY_CLUSTER") else []


def _left_out() -> list[Replacement]:
    """What keeps Ray's extras from starting; nothing where this Ray has other names, and starts with them."""
    try:
        from ray._private import node, services

        replacements: list[Replacement] = [
            (services, "start_ray_process", _with_idle_agents(services.start_ray_process)),
            (services, "start_api_server", lambda *_, **__: ("", None)),
            (node.Node, "start_monitor", lambda _: None),
            (node.Node, "start_log_monitor", lambda _: None),
        ]
        for owner, name, _ in replacements:
            getattr(owner, name)
    except (AttributeError, ImportError) as error:
        _log.info("Ray %s starts with its agents and monitors: %s", ray.__version__, error)
        return []
    return replacements


def _with_idle_agents(start: Callable[..., Any]) -> Callable[..., Any]:
    """Ray's way of starting a process, with other agents in the raylet's command.

    Raises:
        AttributeError: this Ray does not say how its agents' ports are told.
    """
    ports = {
        "--dashboard_agent_command": {
            _raylet.METRICS_AGENT_PORT_NAME: _NO_PORT,
            _raylet.METRICS_EXPORT_PORT_NAME: _NO_PORT,
            _raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME: _NO_PORT,
        },
        "--runtime_env_agent_command": {
            _raylet.RUNTIME_ENV_AGENT_PORT_NAME: 1
        },  # the raylet takes no -1 here; 1 is nobody's
    }

    def start_with_idle_agents(command: list[str], process_type: str, *arguments: Any, **options: Any) -> Any:
        given = dict(part.split("=", 1) for part in command if "=" in part)
        if process_type == "raylet" and {"--session_dir", "--node_id", *ports} <= given.keys():
            agents = {
                option: _idle_agent(given["--session_dir"], given["--node_id"], told) for option, told in ports.items()
            }
            command = [
                f"{option}={agents[option]}" if (option := part.split("=", 1)[0]) in agents else part
                for part in command
            ]
        return start(command, process_type, *arguments, **options)

    return start_with_idle_agents


def _idle_agent(session_folder: str, node_id: str, ports: Mapping[str, int]) -> str:
    """The command line of one, as the raylet takes it."""
    script = Path(__file__).with_name("idle_agent.py")
    files = [f"{name}_{node_id}={port}" for name, port in ports.items()]
    return subprocess.list2cmdline([sys.executable, "-I", "-S", str(script), session_folder, *files])
