"""What is predicted for many cameras follows from what was measured of few."""

import math
from argparse import Namespace
from dataclasses import replace

import pytest

from benchmarks.cost_model import PARTS, Load, Run, fit, left_out, predict, read_runs, size

COSTS = {
    process: {name: 1e-5 * (number + place + 1) for place, name in enumerate(names)}
    for number, (process, names) in enumerate(PARTS.items())
}
FEW = Load(5, 25.0, 64, 16, 8, 1, 1)
LOADS = [
    FEW,
    Load(1, 5.0, 64, 16, 8, 1, 1),
    Load(40, 200.0, 64, 16, 8, 1, 1),
    Load(200, 1000.0, 256, 16, 50, 1, 2),
    Load(200, 1000.0, 64, 16, 50, 2, 2),
    Load(500, 900.0, 128, 32, 25, 1, 3),
    Load(64, 6000.0, 64, 64, 64, 1, 1, live=False),
    Load(16, 3000.0, 256, 16, 16, 1, 1, live=False),
]
OPTIONS = Namespace(stream_fps=25.0, decode_ms=2.0, mbit_s=4.0, device_ms=1.0, maxlen=1000, entry_bytes=500.0)


def made(load: Load) -> Run:
    return Run("made", load, predict(COSTS, load))


def test_costs_that_runs_were_made_of_are_found_again():
    runs = [made(load) for load in LOADS]
    costs = fit(runs)
    for run in runs:
        assert sum(predict(costs, run.load).values()) == pytest.approx(sum(run.cpu_s.values()), rel=1e-3)
    assert all(predicted == pytest.approx(run.cpu_ms, rel=0.25) for run, predicted in left_out(runs))


def test_few_frames_are_asked_for_and_sent_one_by_one_and_many_in_batches():
    few, many, files = FEW.parts(), LOADS[3].parts(), LOADS[6].parts()
    assert few["requests"] == pytest.approx(25.0)
    assert few["calls"] == pytest.approx(25.0)
    assert 1000.0 / 16 <= many["requests"] < 250.0
    assert many["calls"] == pytest.approx(2 * 1000.0 / 16)  # a batch goes to two scorers
    assert files["requests"] == files["calls"] == pytest.approx(6000.0 / 64)


def test_ten_times_the_cameras_take_ten_times_the_cores_and_as_many_more_scorers_and_detectors():
    load = Load(1000, 5000.0, 256, 32, 50, 1, 1)
    small, large = (size(COSTS, each, OPTIONS) for each in (load, replace(load, cameras=10_000, frames_per_s=50_000.0)))
    assert large["cores"]["decoding"] == pytest.approx(10 * small["cores"]["decoding"]) == 500.0
    assert large["scorers"] >= 50
    alone = predict(COSTS, load)["DetectorActor"]
    assert small["detectors"] == math.ceil((5.0 + alone) / 0.75)  # 5,000 frames of 1 ms, then what takes them in
    assert large["detectors"] == pytest.approx(10 * small["detectors"], abs=10)
    assert large["gbit_s"]["cameras to decoders"] == 40.0
    assert large["redis_gb"] == 5.0


def test_what_is_kept_was_measured_by_runs_that_the_model_can_read():
    runs = read_runs()
    assert len(runs) >= 8
    assert any(run.load.cameras >= 1000 for run in runs)
    errors = [abs(predicted / run.cpu_ms - 1.0) for run, predicted in left_out(runs)]
    assert sorted(errors)[len(errors) // 2] < 0.35
