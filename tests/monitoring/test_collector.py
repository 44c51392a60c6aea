"""What a scrape says of a run, read as Prometheus reads it."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.monitoring.collector import OUTCOMES, RunCollector
from pipeline.runtime.status import RunStatus
from tests.monitoring.made import watch


class Scraped:
    """Samples by name and labels."""

    def __init__(self, watched):
        registry = CollectorRegistry()
        registry.register(RunCollector(watched.look))
        self.text = generate_latest(registry).decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name, **labels):
        (found,) = (sample.value for sample in self.samples if (sample.name, sample.labels) == (name, labels))
        return found

    def labels(self, name):
        return [sample.labels for sample in self.samples if sample.name == name]


@pytest.fixture(scope="module")
def scraped():
    return Scraped(watch())


def test_frames_of_each_camera_add_up_and_none_of_the_outcomes_is_missing(scraped):
    for camera, decoded in (("gate", 100), ("yard", 0)):
        outcomes = {name: scraped.value("cflow_frames_total", camera=camera, outcome=name) for name in OUTCOMES}
        in_flight = scraped.value("cflow_frames_in_flight", camera=camera)
        assert sum(outcomes.values()) + in_flight == decoded
        assert scraped.value("cflow_frames_decoded_total", camera=camera) == decoded
    assert outcomes.keys() >= {"scored", "overload", "stale", "detector_lost", "shutdown"}


def test_a_camera_that_was_removed_is_gone_but_its_frames_stay_in_the_runs_sums(scraped):
    assert {labels["camera"] for labels in scraped.labels("cflow_frames_decoded_total")} == {"gate", "yard"}
    assert scraped.value("cflow_run_frames_decoded_total") == 100 + 10 + 1000
    assert scraped.value("cflow_run_frames_total", outcome="scored") == 90 + 10 + 1000
    assert scraped.value("cflow_run_frames_in_flight") == 4


def test_dead_cameras_show_with_zeros_and_one_that_nobody_reads_yet_is_down(scraped):
    assert scraped.value("cflow_camera_up", camera="gate") == 1
    assert scraped.value("cflow_camera_up", camera="yard") == 0
    assert scraped.value("cflow_camera_up", camera="roof") == 0
    assert scraped.value("cflow_camera_condition", camera="yard", condition="offline") == 1
    assert scraped.value("cflow_camera_condition", camera="gate", condition="offline") == 0
    assert scraped.value("cflow_camera_paused", camera="yard") == 1
    assert scraped.labels("cflow_camera_last_frame_timestamp_seconds") == [{"camera": "gate"}]


def test_histograms_are_cumulative_and_end_with_the_number_of_values(scraped):
    buckets = {
        sample.labels["le"]: sample.value
        for sample in scraped.families["cflow_stage_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["stage"] == "inbox"
    }
    assert (buckets["0.0025"], buckets["0.005"], buckets["0.1"], buckets["0.25"], buckets["+Inf"]) == (0, 1, 1, 2, 2)
    assert scraped.value("cflow_stage_seconds_sum", stage="inbox") == pytest.approx(0.204)
    assert scraped.value("cflow_frame_latency_seconds_count") == 2
    assert scraped.value("cflow_batch_frames_sum") == 9


def test_actors_sinks_models_and_the_run_are_told(scraped):
    assert scraped.value("cflow_actor_up", actor="detector-0", kind="detector") == 1
    assert scraped.value("cflow_actor_up", actor="detector-1", kind="detector") == 0
    assert {labels["node"] for labels in scraped.labels("cflow_actor_info")} == {"a1", "b2"}
    assert scraped.value("cflow_detector_busy_seconds_total", actor="detector-0") == 12.5
    assert scraped.value("cflow_frames_waiting", queue="inbox") == 4
    assert scraped.value("cflow_frames_waiting", queue="camera_buffer") == 3
    assert scraped.value("cflow_alerts_total", sink="redis", outcome="delivered") == 3
    assert scraped.value("cflow_alerts_total", sink="pager", outcome="withheld") == 4
    assert scraped.value("cflow_alerts_waiting", sink="pager") == 1
    assert scraped.value("cflow_rows_lost_total", sink="parquet") == 7
    assert scraped.value("cflow_sink_failing", sink="parquet") == 1
    model = {"fingerprint": "0123456789ab", "method": "cflow", "encoder": "mobilenetv2_100"}
    assert scraped.value("cflow_model_info", **model) == 1
    assert scraped.value("cflow_run_up") == 1
    assert scraped.value("cflow_run_phase", phase="running") == 1
    assert sum(scraped.value("cflow_run_phase", **labels) for labels in scraped.labels("cflow_run_phase")) == 1


def test_names_follow_prometheus_and_labels_have_one_name_for_each_thing(scraped):
    for family in scraped.families.values():
        assert re.fullmatch(r"cflow_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert (family.type == "counter") == all(s.name.endswith("_total") for s in family.samples if family.samples)
        assert not re.search(r"(_ms|_count|_milliseconds|_s)$", family.name)
    known = {"camera", "outcome", "condition", "scene", "live", "stage", "le", "actor", "kind", "node", "sink", "queue"}
    known |= {"phase", "version", "fingerprint", "method", "encoder"}
    assert {label for sample in scraped.samples for label in sample.labels} == known


def test_a_run_that_has_just_begun_has_all_that_does_not_depend_on_its_cameras():
    started = watch()
    started.tell("starting", RunStatus((), done=False))
    scraped = Scraped(started)
    assert (scraped.value("cflow_run_up"), scraped.value("cflow_run_phase", phase="starting")) == (0, 1)
    assert scraped.value("cflow_run_frames_total", outcome="scored") == 0
    assert scraped.value("cflow_stage_seconds_count", stage="scoring") == 0
