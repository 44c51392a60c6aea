"""A run's status as Prometheus metrics, made when they are asked for; docs/monitoring.md says what each means.

Nothing is kept between two scrapes, so that a camera that was removed is gone, and one that never sent a frame is there
with zeros. Whatever a label can say is bounded by what the run has at present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline.monitoring.run_watch import RunView
from pipeline.runtime.status import CameraStatus, RunStatus
from pipeline.runtime.tally import EDGES, STAGES, HistogramCounts
from pipeline.sinks.run_status import RunPhase
from pipeline.types import DropReason, FrameCounts
from pipeline.version import VERSION

OUTCOMES = ("scored", *get_args(DropReason))
"""What may become of a frame: a score, or a reason why it has none."""

CONDITIONS = ("offline", "frozen", "dark", "moved", "light_changed", "drifted")
_REDIS = "redis"  # the sink whose alerts are counted without its name


def metrics_app(look: Callable[[], RunView]) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """What answers to a scrape, as a WSGI application.

    Args:
        look: how the run stands.
    """
    registry = CollectorRegistry()
    registry.register(RunCollector(look))
    ProcessCollector(registry=registry)
    return make_wsgi_app(registry)


class RunCollector(Collector):
    """Makes the metrics of a run.

    Args:
        look: how the run stands.
    """

    def __init__(self, look: Callable[[], RunView]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are not looked at before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, as the run stands now."""
        view = self._look()
        yield from _run(view)
        yield from _frames(view.status)
        yield from _cameras(view.status)
        yield from _stages(view.status.activity.histograms)
        yield from _actors(view.status)
        yield from _sinks(view.status)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cflow_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"cflow_{name}", text, labels=labels)


def _value(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"cflow_{name}", text, value=value)


def _run(view: RunView) -> Iterator[Metric]:
    build = _gauge("build_info", "The release that runs; always 1.", "version")
    build.add_metric([VERSION], 1.0)
    yield build
    models = _gauge(
        "model_info", "A model that scores frames at present; always 1.", "fingerprint", "method", "encoder"
    )
    for model in view.models:
        models.add_metric([model.fingerprint, model.method, model.encoder], 1.0)
    yield models
    yield _value("run_up", "1 while the run is running and its supervisor gives news.", view.unhealthy is None)
    phases = _gauge("run_phase", "1 for the phase the run is in, 0 for the others.", "phase")
    for phase in get_args(RunPhase):
        phases.add_metric([phase], float(phase == view.phase))
    yield phases
    yield _value("run_start_timestamp_seconds", "Unix time at which the run began.", view.started_at_s)
    yield _value("run_status_age_seconds", "Since when the supervisor has given no news.", view.age_s)
    yield _value("run_troubles", "What is wrong at present beside single cameras.", len(view.status.troubles))


def _frames(status: RunStatus) -> Iterator[Metric]:
    """The run's own sums: exact also after cameras, and their series, were removed."""
    counts = status.counts()
    decoded = _counter("run_frames_decoded", "Frames that came, of all cameras that the run has had.")
    decoded.add_metric([], counts.decoded)
    yield decoded
    frames = _counter("run_frames", "What became of them.", "outcome")
    _add_outcomes(frames, [], counts)
    yield frames
    yield _value("run_frames_in_flight", "Those of which it is not known yet.", counts.in_flight)
    waiting = _gauge("frames_waiting", "Frames that wait at present, by where.", "queue")
    for queue, count in status.activity.waiting.items():
        waiting.add_metric([queue], count)
    yield waiting


def _add_outcomes(frames: CounterMetricFamily, labels: list[str], counts: FrameCounts) -> None:
    for outcome in OUTCOMES:
        frames.add_metric([*labels, outcome], counts.scored if outcome == "scored" else counts.dropped.get(outcome, 0))


def _cameras(status: RunStatus) -> Iterator[Metric]:
    up = _gauge("camera_up", "1 while frames of it come.", "camera")
    for camera_id in status.unread:
        up.add_metric([camera_id], 0.0)
    info = _gauge("camera_info", "A camera of the run; always 1.", "camera", "scene", "live")
    conditions = _gauge("camera_condition", "1 while it is out of order in that way.", "camera", "condition")
    frames = _counter("frames", "What became of the frames that were decoded.", "camera", "outcome")
    of_each: list[tuple[GaugeMetricFamily | CounterMetricFamily, Callable[[CameraStatus], float | None]]] = [
        (up, _is_up),
        (
            _gauge("camera_paused", "1 while nobody wants frames of it.", "camera"),
            lambda c: c.camera_id in status.paused,
        ),
        (_counter("frames_decoded", "Frames that came.", "camera"), lambda c: c.counts.decoded),
        (_gauge("frames_in_flight", "Frames neither scored nor dropped yet.", "camera"), lambda c: c.counts.in_flight),
        (_counter("frames_missing", "Frames that a file promised and that never came.", "camera"), lambda c: c.missing),
        (_counter("camera_reconnects", "Sessions that began after its first one.", "camera"), lambda c: c.session),
        (_counter("events", "Events, an open one included.", "camera"), lambda c: c.scoring.events),
        (
            _gauge("camera_last_frame_timestamp_seconds", "Unix time of its newest sound frame.", "camera"),
            lambda c: c.last_frame_at_s,
        ),
        (
            _gauge("camera_last_scored_frame_timestamp_seconds", "When its newest scored frame came.", "camera"),
            lambda c: c.scoring.scored_frame_at_s,
        ),
    ]
    for camera in status.cameras:
        if camera.state == "removed":
            continue
        name = camera.camera_id
        info.add_metric([name, camera.scene, "true" if camera.live else "false"], 1.0)
        for condition in CONDITIONS:
            conditions.add_metric([name, condition], float(condition in camera.conditions))
        _add_outcomes(frames, [name], camera.counts)
        for family, value_of in of_each:
            if (value := value_of(camera)) is not None:
                family.add_metric([name], float(value))
    yield from (info, conditions, frames, *(family for family, _ in of_each))


def _is_up(camera: CameraStatus) -> bool:
    return camera.state == "streaming" and "offline" not in camera.conditions


def _stages(histograms: Mapping[str, HistogramCounts]) -> Iterator[Metric]:
    stages = HistogramMetricFamily(
        "cflow_stage_seconds", "Time that a frame spent in a stage, waiting included.", labels=["stage"]
    )
    for stage in STAGES:
        _add_histogram(stages, [stage], histograms.get(stage) or HistogramCounts.none(EDGES[stage]))
    yield stages
    whole = HistogramMetricFamily("cflow_frame_latency_seconds", "Time from the decoder to the score.", labels=[])
    _add_histogram(whole, [], histograms.get("all") or HistogramCounts.none(EDGES["all"]))
    yield whole
    batches = HistogramMetricFamily("cflow_batch_frames", "Frames in one forward pass of a model.", labels=[])
    _add_histogram(batches, [], histograms.get("batch_frames") or HistogramCounts.none(EDGES["batch_frames"]))
    yield batches


def _add_histogram(family: HistogramMetricFamily, labels: list[str], counts: HistogramCounts) -> None:
    edges = [*(floatToGoString(edge) for edge in counts.edges), "+Inf"]
    family.add_metric(labels, list(zip(edges, accumulate(map(float, counts.buckets)), strict=True)), counts.total)


def _actors(status: RunStatus) -> Iterator[Metric]:
    up = _gauge("actor_up", "1 while it answers.", "actor", "kind")
    info = _gauge("actor_info", "An actor and the node it runs on; always 1.", "actor", "kind", "node")
    busy = _counter("detector_busy_seconds", "Time that it predicted, since its process began.", "actor")
    batches = _counter("detector_batches", "Batches that it predicted since then.", "actor")
    frames = _counter("detector_frames", "Frames in them.", "actor")
    waiting = _gauge("detector_frames_waiting", "Frames that wait in it.", "actor")
    oldest = _gauge("detector_oldest_frame_seconds", "Since when the oldest of them waits; 0 without any.", "actor")
    for actor in status.activity.actors:
        up.add_metric([actor.name, actor.kind], float(actor.alive))
        if actor.node:
            info.add_metric([actor.name, actor.kind, actor.node], 1.0)
        if (load := actor.load) is not None:
            busy.add_metric([actor.name], load.busy_s)
            batches.add_metric([actor.name], load.batches)
            frames.add_metric([actor.name], load.frames)
            waiting.add_metric([actor.name], load.waiting)
            oldest.add_metric([actor.name], load.oldest_s)
    yield from (up, info, busy, batches, frames, waiting, oldest)


def _sinks(status: RunStatus) -> Iterator[Metric]:
    alerts = _counter("alerts", "What became of alerts and notices.", "sink", "outcome")
    waiting = _gauge("alerts_waiting", "Alerts and notices that a sink does not have yet.", "sink")
    for sink, counts in _alert_counts(status.alerts):
        for outcome in ("delivered", "withheld", "dropped"):
            alerts.add_metric([sink, outcome], counts.get(outcome, 0))
        waiting.add_metric([sink], counts.get("waiting", 0))
    lost = _counter("rows_lost", "Scores that a sink will never have.", "sink")
    for sink, rows in status.activity.rows_lost.items():
        lost.add_metric([sink], rows)
    failing = _gauge("sink_failing", "1 while it cannot be written to.", "sink")
    for sink, is_failing in status.activity.failing.items():
        failing.add_metric([sink], float(is_failing))
    yield from (alerts, waiting, lost, failing)


def _alert_counts(alerts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, int]]]:
    if alerts:
        yield _REDIS, alerts
        yield from alerts.get("sinks", {}).items()
