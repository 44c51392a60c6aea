"""How many detectors a run gets, and on what, by the resources that a cluster says it has."""

from pathlib import Path

import pytest

from actors.fleet import Fleet
from pipeline.camera_settings import CameraSettings
from pipeline.config import RuntimeSettings
from pipeline.errors import BadInputError
from pipeline.models.source import ModelSource
from pipeline.runtime.plan import RunPlan


@pytest.fixture
def cluster(monkeypatch):
    """Says what a cluster has: machines with so many GPUs are not at hand."""
    return lambda **resources: monkeypatch.setattr("ray.cluster_resources", lambda: resources)


def fleet(url="rtsp://10.0.0.1/x", **runtime):
    plan = RunPlan(
        name="run",
        cameras=(CameraSettings(id="gate", url=url),),
        scene_references={},
        card=None,  # nobody here scores
        model=ModelSource("", "model"),
        model_copies=Path("models"),
        size_px=(8, 8),
        gap_s=0.1,
        runtime=RuntimeSettings(**runtime),
        sinks=None,  # nobody here writes
        quarantine=Path("quarantine"),
    )
    return Fleet(plan)


@pytest.mark.parametrize(
    ("settings", "active", "total"),
    [
        ({}, 1, 2),  # a spare one takes over at once, where newer frames are worth more
        ({"url": "footage/gate.mp4"}, 1, 1),
        ({"detectors": 3}, 3, 3),  # they take over from each other
        ({"detectors": 2, "spare_detectors": 2}, 2, 4),
        ({"spare_detectors": 0}, 1, 1),
    ],
)
def test_a_spare_detector_is_kept_beside_a_single_one_of_live_cameras_or_as_many_as_asked(
    cluster, settings, active, total
):
    cluster(CPU=2.0, GPU=1.0)
    made = fleet(device="cpu", **settings)
    assert (made.device, made.active) == ("cpu", active)
    assert made.detectors == tuple(f"run-detector-{number}" for number in range(total))


@pytest.mark.parametrize(
    ("gpus", "settings", "active", "total"),
    [(1, {}, 1, 2), (4, {}, 4, 4), (4, {"detectors": 2}, 2, 2), (2, {"detectors": 8, "device": "cuda"}, 2, 2)],
)
def test_there_is_a_detector_for_every_gpu_and_none_without_one(cluster, gpus, settings, active, total):
    cluster(CPU=8.0, GPU=float(gpus))
    made = fleet(**settings)
    assert (made.device, made.active, len(made.detectors)) == ("cuda", active, total)


def test_without_a_gpu_detectors_run_on_the_cpu_unless_one_is_asked_for(cluster):
    cluster(CPU=2.0)
    assert fleet().device == "cpu"
    with pytest.raises(BadInputError, match="expected a GPU in the Ray cluster for 'cuda', got none"):
        fleet(device="cuda")


@pytest.mark.parametrize(
    ("gpus", "share", "settings", "active", "max_active"),
    [
        (2, 0.5, {}, 4, 4),
        (1, 0.4, {}, 2, 2),
        (4, 2.0, {}, 2, 2),
        (1, 1 / 3, {}, 3, 3),
        (1, 1.0, {"detectors": 1, "max_detectors": 4}, 1, 4),
        (2, 1.0, {"max_detectors": 4}, 2, 4),
    ],
)
def test_detectors_share_gpus_as_the_settings_say(cluster, gpus, share, settings, active, max_active):
    cluster(CPU=8.0, GPU=float(gpus))
    made = fleet(gpus_per_detector=share, **settings)
    assert (made.active, made.max_active) == (active, max_active)


def test_a_detector_that_wants_more_gpus_than_there_are_is_refused(cluster):
    cluster(CPU=8.0, GPU=1.0)
    with pytest.raises(BadInputError, match="gpus_per_detector: expected at most the 1 GPUs of the Ray cluster, got 2"):
        fleet(gpus_per_detector=2)


@pytest.mark.parametrize(
    ("resources", "settings", "count", "leaving", "fits"),
    [
        ({"CPU": 8.0, "GPU": 1.0}, {}, 1, 1, True),  # the spare one makes room
        ({"CPU": 8.0, "GPU": 1.0}, {"spare_detectors": 0}, 1, 0, False),
        ({"CPU": 8.0, "GPU": 1.0}, {"spare_detectors": 0, "detectors": 1, "gpus_per_detector": 0.5}, 1, 0, True),
        ({"CPU": 4.0}, {"detectors": 3}, 3, 0, True),
    ],
)
def test_two_models_fit_beside_each_other_where_there_is_a_share_left(
    cluster, monkeypatch, resources, settings, count, leaving, fits
):
    cluster(**resources)
    made = fleet(**settings)
    kind, share = ("GPU", "num_gpus") if "GPU" in resources else ("CPU", "num_cpus")
    taken = len(made.detectors) * made._detector_share()[share]
    monkeypatch.setattr("ray.available_resources", lambda: {kind: resources[kind] - taken})
    if fits:
        made.check_room_beside(count, leaving)
    else:
        with pytest.raises(BadInputError, match=r"expected room for 1 more .* 1 GPU, got 0 GPU free; with .* 0\.5 two"):
            made.check_room_beside(count, leaving)
