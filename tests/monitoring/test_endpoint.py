"""What somebody who asks over HTTP is answered."""

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from pipeline.config import MetricsSettings
from pipeline.config_file import parse_config
from pipeline.errors import BadInputError, ConfigError
from pipeline.monitoring.endpoint import check_address, served_metrics
from pipeline.monitoring.run_watch import STALE_AFTER_S
from tests.monitoring.made import Clock, watch

ROOT = Path(__file__).parents[2]


def free_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_metrics_and_health_answer_and_everything_else_is_told_what_there_is():
    settings = MetricsSettings(port=free_port())
    with served_metrics(settings, watch()), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}") as client:
        scraped = client.get("/metrics")
        assert scraped.headers["content-type"].startswith("text/plain; version=")
        assert 'cflow_camera_up{camera="gate"} 1.0' in scraped.text
        assert "process_resident_memory_bytes" in scraped.text
        assert (client.get("/health").status_code, client.get("/health").text) == (200, "running\n")
        assert (client.get("/").status_code, client.get("/").text) == (404, "expected /metrics or /health\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{settings.port}/health")


def test_health_says_in_one_line_why_a_run_is_not_as_it_should_be():
    clock, settings = Clock(), MetricsSettings(port=free_port())
    watched = watch(clock)
    with served_metrics(settings, watched), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}") as client:
        clock.now += STALE_AFTER_S + 1
        stuck = client.get("/health")
        assert stuck.status_code == 503
        assert stuck.text == "expected news of the run every second, the last came 11 s ago\n"
        assert "cflow_run_up 0.0" in client.get("/metrics").text
        for phase in ("starting", "ending", "ended", "failed"):
            watched.tell_phase(phase)
            told = client.get("/health")
            assert (told.status_code, told.text) == (503, f"expected a run that is running, this one is {phase}\n")


def test_whoever_connects_and_says_nothing_or_leaves_keeps_nobody_else_from_an_answer(capfd):
    settings = MetricsSettings(port=free_port())
    with served_metrics(settings, watch()), closing(socket.create_connection(("127.0.0.1", settings.port))):
        with closing(socket.create_connection(("127.0.0.1", settings.port))) as rude:
            rude.sendall(b"\x00\xff nonsense\r\n\r\n")
        assert httpx.get(f"http://127.0.0.1:{settings.port}/health").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_that_is_taken_or_an_address_that_is_not_ours_is_one_clear_line():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        line = (
            rf"^metrics: 127\.0\.0\.1, port {port}: expected a free port at an address of this machine, got: .*in use$"
        )
        with pytest.raises(BadInputError, match=line):
            check_address(MetricsSettings(port=port))
        with pytest.raises(BadInputError, match=line), served_metrics(MetricsSettings(port=port), watch()):
            pass
    with pytest.raises(BadInputError, match=r"metrics: 192\.0\.2\.1, port \d+: expected a free port at an address of"):
        check_address(MetricsSettings(host="192.0.2.1", port=port))
    with pytest.raises(BadInputError, match=r"metrics: nowhere\.invalid, port"):
        check_address(MetricsSettings(host="nowhere.invalid", port=port))


def test_without_a_port_nobody_listens_and_an_address_of_ipv6_is_taken():
    with served_metrics(MetricsSettings(), watch()):
        check_address(MetricsSettings())
    if socket.has_ipv6:
        settings = MetricsSettings(host="::1", port=free_port())
        try:
            check_address(settings)
        except BadInputError:
            pytest.skip("this machine lets nobody listen at ::1")
        with served_metrics(settings, watch()):
            assert httpx.get(f"http://[::1]:{settings.port}/health").status_code == 200


@pytest.mark.parametrize(
    ("metrics", "line"),
    [({"port": 0}, r"metrics\.port"), ({"port": 70_000}, r"metrics\.port"), ({"host": "a b"}, r"metrics\.host")],
)
def test_settings_that_cannot_be_meant_are_refused_with_their_path(metrics, line):
    with pytest.raises(ConfigError, match=line):
        parse_config({"metrics": metrics})


def test_a_stream_whose_metrics_cannot_be_served_is_refused_before_anything_starts(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = {"metrics": {"port": taken.getsockname()[1]}, "output": {"folder": str(tmp_path / "run")}}
        (tmp_path / "cameras.yaml").write_text(
            json.dumps({**settings, "cameras": [{"id": "gate", "url": "rtsp://10.0.0.1/x"}]})
        )
        command = [sys.executable, ROOT / "run_cluster.py", "stream", "--config", tmp_path / "cameras.yaml"]
        done = subprocess.run([*command, "--model", tmp_path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("error: metrics: 127.0.0.1, port ")
    assert not (tmp_path / "run").exists()
