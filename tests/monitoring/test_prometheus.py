"""A real Prometheus scrapes a run that streams, and all that the rules and the dashboard ask has an answer."""

import re
import shutil
import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest
import yaml

from pipeline.monitoring.collector import OUTCOMES
from tests.faults.live import LiveRun, live_config
from tests.monitoring.shipped import FOLDER, RULES, SELECTOR, TARGETS, program
from tests.monitoring.test_endpoint import free_port

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.server]
IN_PLACE_OF = {"$__rate_interval": "30s", "$instance": ".*", "$camera": ".*"}
_UNREACHABLE = "rtsp://127.0.0.1:1/nobody"


class WatchedRun(LiveRun):
    """A run whose health is asked whenever it tells its command how it stands."""

    def _see(self, status):
        super()._see(status)
        answer = httpx.get(f"http://127.0.0.1:{self.plan.metrics.port}/health", timeout=60.0)
        self.told = [*getattr(self, "told", []), (answer.status_code, answer.text.strip())]


class Prometheus:
    """One that scrapes a run every second."""

    def __init__(self, folder, port):
        config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
        shutil.copy(FOLDER / "alerts.yaml", folder)
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        own_port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{own_port}/api/v1", timeout=30.0)
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                program("prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{own_port}",
            ],
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ask(self, what, **parameters):
        return self._client.get(what, params=parameters).raise_for_status().json()["data"]

    def query(self, expression):
        for name, value in IN_PLACE_OF.items():
            expression = expression.replace(name, value)
        return self.ask("query", query=expression)["result"]

    def wait_for(self, expression, longest_s=120.0):
        give_up_at = time.monotonic() + longest_s
        while True:
            try:
                if found := self.query(expression):
                    return found
            except httpx.HTTPError:  # it is starting
                assert self._process.poll() is None
            assert time.monotonic() < give_up_at, expression
            time.sleep(0.2)

    def end(self):
        self._process.terminate()
        self._process.wait(30.0)
        self._log.close()


@contextmanager
def scraped_run(trained, folder, redis_url):
    clip = trained.dataset.test[0]
    cameras = [
        {"id": "gate", "url": str(clip.url), "scene": clip.scene, "loop": True},
        {"id": "roof", "url": _UNREACHABLE},
    ]
    port = free_port()
    config = live_config({}, folder / "run", redis_url, cameras=cameras, metrics={"port": port})
    run = WatchedRun(config, trained.folder)
    prometheus = Prometheus(folder, port)
    try:
        yield run, prometheus
    finally:
        prometheus.end()


def test_a_real_prometheus_finds_an_answer_to_all_that_the_rules_and_the_dashboard_ask(trained, redis_url, tmp_path):
    with scraped_run(trained, tmp_path, redis_url) as (run, prometheus):
        run.wait_for_scores("gate")
        prometheus.wait_for('rate(cflow_frames_total{camera="gate", outcome="scored"}[30s]) > 0')
        for _, expression in TARGETS:
            prometheus.wait_for(expression)
        for rule in RULES:
            compared = re.split(r" (?:==|>) ", rule["expr"])[0]
            for part in {compared, *SELECTOR.findall(rule["expr"])}:
                prometheus.wait_for(re.sub(r"absent\((.*)\)", r"\1", part))
        (group,) = prometheus.ask("rules")["groups"]
        assert {rule["name"]: rule["health"] for rule in group["rules"]} == {rule["alert"]: "ok" for rule in RULES}

        (offline,) = prometheus.wait_for('ALERTS{alertname="CflowCameraOffline"}')
        assert offline["metric"]["camera"] == "roof"
        assert prometheus.query('cflow_camera_up{camera="roof"}')[0]["value"][1] == "0"
        assert prometheus.query('cflow_frames_decoded_total{camera="roof"}')[0]["value"][1] == "0"
        books = "sum by (camera) (cflow_frames_total) + on (camera) cflow_frames_in_flight - cflow_frames_decoded_total"
        off = prometheus.query(books.replace(" - ", " - on (camera) "))
        assert {(found["metric"]["camera"], found["value"][1]) for found in off} == {("gate", "0"), ("roof", "0")}
        outcomes = prometheus.query('cflow_frames_total{camera="gate"}')
        assert {found["metric"]["outcome"] for found in outcomes} == set(OUTCOMES)
        run.end()
    assert (200, "running") in run.told
    assert run.told[-1] == (503, "expected a run that is running, this one is ended")
