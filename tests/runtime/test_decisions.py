import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backoff import Backoff
from pipeline.runtime.assignment import split_cameras
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.latency import LatencyHistogram


def test_a_full_batch_closes_at_once_and_a_young_one_waits():
    policy = BatchPolicy(max_frames=4, max_wait_s=0.5)
    assert policy.patience_s(4, 0.0) <= 0.0
    assert policy.patience_s(1, 0.2) == pytest.approx(0.3)
    assert policy.patience_s(1, 0.6) <= 0.0


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 9), st.none() | st.integers(1, 9))
def test_every_camera_is_in_one_process(cameras, per_process, detectors, limit):
    ids = [f"c{number}" for number in range(cameras)]
    processes = split_cameras(ids, per_process=per_process, detectors=detectors, max_processes=limit)
    assert sorted(camera for process in processes for camera in process) == sorted(ids)
    sizes = [len(process) for process in processes]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    if limit is None:
        assert max(sizes) <= per_process
        assert len(processes) >= min(detectors, cameras)
    else:
        assert len(processes) <= limit


@given(st.integers(0, 2**31), st.integers(1, 60))
def test_waits_stay_between_base_and_cap(seed, failures):
    backoff = Backoff(base_s=0.25, cap_s=15.0, seed=seed)
    waits = [backoff.failed() for _ in range(failures)]
    assert all(0.25 <= wait <= 15.0 for wait in waits)
    assert waits[0] <= 0.5


def test_success_starts_the_waits_anew():
    backoff = Backoff(seed=1)
    for _ in range(20):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failed() <= 0.5


@given(st.lists(st.floats(1e-3, 500.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_is_known_to_within_two_percent(latencies, q):
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)
    exact = sorted(latencies)[max(1, math.ceil(q * len(latencies))) - 1]
    assert histogram.quantile_s(q) == pytest.approx(exact, rel=0.02)


def test_an_empty_histogram_has_no_quantile():
    assert LatencyHistogram().quantile_s(0.5) is None
