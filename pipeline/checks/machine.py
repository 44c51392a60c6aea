"""What a run needs where it starts: Redis and other sinks, room to write, ports, and a folder that no run uses."""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path

from pipeline.checks.finding import Finding
from pipeline.config import Config
from pipeline.errors import BadInputError, CflowError
from pipeline.files import require_writable
from pipeline.monitoring.endpoint import check_address
from pipeline.private_folder import temporary_folder
from pipeline.redaction import redact
from pipeline.sinks.embedded_redis import find_server, server_version
from pipeline.sinks.redis_probe import probe_redis
from pipeline.sinks.run_lock import check_unused
from pipeline.sinks.run_status import living_run

_GIB = 2**30
_LITTLE_OUTPUT_BYTES = 2 * _GIB
_LITTLE_TEMPORARY_BYTES = _GIB // 2
_PORTS = 32  # what a local Ray and its workers listen on is about ten, and a few more for each camera process


def check_redis(config: Config) -> Finding:
    """An external Redis answers and takes what a run writes; or there is a server to embed."""
    try:
        if config.redis.is_embedded:
            binary = find_server()
            return Finding("redis", "ok", f"embedded: {server_version(binary)} at {binary}")
        url = config.redis.url.get_secret_value()
        took_s = probe_redis(url)
        other = living_run(url)
    except CflowError as error:
        return Finding("redis", "failed", str(error))
    if other is not None:
        return Finding("redis", "warning", other)
    return Finding("redis", "ok", f"{redact(url)}: takes a write, answers within {1000 * took_s:.0f} ms")


def check_sinks(config: Config) -> list[Finding]:
    """Whoever else gets alerts can be reached; nothing is sent to them."""
    findings: list[Finding] = []
    for sink in config.sinks:
        what = f"sink {sink.sink_name}"
        try:
            findings.append(Finding(what, "ok", sink.check()))
        except CflowError as error:
            findings.append(Finding(what, "failed", str(error)))
    return findings


def check_output(config: Config) -> list[Finding]:
    """The output folder can be written, and no run uses it."""
    folder = config.output.folder
    findings = [_check_room("output folder", folder, _LITTLE_OUTPUT_BYTES)]
    try:
        check_unused(folder)
    except BadInputError as error:
        return [*findings, Finding("runs", "failed", str(error))]
    return [*findings, Finding("runs", "ok", f"none is under way in {folder}")]


def check_temporary() -> Finding:
    """The temporary folder, where Ray and the cameras' counter files live while a run lasts."""
    try:
        folder = temporary_folder()
    except BadInputError as error:
        return Finding("temporary folder", "failed", str(error))
    return _check_room("temporary folder", folder, _LITTLE_TEMPORARY_BYTES)


def check_metrics(config: Config) -> list[Finding]:
    """The address of ``/metrics`` can be listened at; nothing is found where none is set."""
    metrics = config.metrics
    if metrics.port is None:
        return []
    try:
        check_address(metrics)
    except BadInputError as error:
        return [Finding("metrics", "failed", str(error))]
    where = f"[{metrics.host}]" if ":" in metrics.host else metrics.host
    return [Finding("metrics", "ok", f"http://{where}:{metrics.port}/metrics can be served")]


def check_ports() -> Finding:
    """As many ports as a local Ray needs can be had on loopback at the same time."""
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(_PORTS):
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", 0))
                listener.listen(1)
        except OSError as error:
            return Finding("ports", "failed", f"expected {_PORTS} free ports on 127.0.0.1, got: {error.strerror}")
    return Finding("ports", "ok", f"{_PORTS} on 127.0.0.1 can be had, about as many as a local Ray takes")


def _check_room(what: str, folder: Path, little_bytes: int) -> Finding:
    """Write into a folder, or into the one in which it would be made; nothing is left there."""
    try:
        free_bytes = shutil.disk_usage(require_writable(folder)).free
    except BadInputError as error:
        return Finding(what, "failed", str(error))
    detail = f"{folder}: {free_bytes / _GIB:,.1f} GiB free"
    if free_bytes < little_bytes:
        return Finding(what, "warning", f"{detail}, which is little")
    return Finding(what, "ok", detail)
