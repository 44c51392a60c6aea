import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backoff import Backoff
from pipeline.runtime.assignment import split_cameras
from pipeline.runtime.batching import LONGEST_WAIT_S, BatchPolicy, CompanyWait
from pipeline.runtime.latency import LatencyHistogram
from pipeline.runtime.slices import ScorerSlices


def test_a_full_batch_closes_at_once_and_a_young_one_waits():
    policy = BatchPolicy(max_frames=4, max_wait_s=0.5)
    assert policy.patience_s(4, 0.0) <= 0.0
    assert policy.patience_s(1, 0.2) == pytest.approx(0.3)
    assert policy.patience_s(1, 0.6) <= 0.0


def waits_s(fps, frames_at_once=1, for_s=10.0):
    """What a steady stream of frames comes to wait, at every frame of its last second."""
    company, step_s = CompanyWait(), frames_at_once / fps
    waits = []
    for number in range(round(for_s / step_s)):
        company.add(frames_at_once, number * step_s)
        waits.append(company.wait_s(number * step_s))
    return waits[-round(1.0 / step_s) :]


@given(st.floats(1.0, 120.0))
def test_where_few_frames_come_none_waits(fps):
    assert set(waits_s(fps)) == {0.0}


@given(st.floats(310.0, 5000.0), st.integers(1, 8))
def test_where_many_frames_come_they_wait_as_long_as_is_allowed_and_no_longer(fps, frames_at_once):
    assert set(waits_s(fps, frames_at_once)) == {LONGEST_WAIT_S}


def test_the_more_frames_come_the_longer_they_wait_until_they_stop_coming():
    means = [sum(waits) / len(waits) for waits in map(waits_s, (120, 180, 240, 320))]
    assert means == sorted(means)
    assert means[1:3] == pytest.approx([0.2 * LONGEST_WAIT_S, 0.6 * LONGEST_WAIT_S], rel=0.05)
    company = CompanyWait()
    company.add(1000, now=0.0)
    assert company.wait_s(now=0.0) == LONGEST_WAIT_S
    assert company.wait_s(now=3.0) == 0.0


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(-0.01, 5.0))), st.floats(0.0, 1.0))
def test_a_wait_that_the_config_states_is_the_wait(arrivals, fixed_s):
    company, now = CompanyWait(fixed_s), 0.0
    for frames, step_s in arrivals:
        now += step_s
        company.add(frames, now)
        assert company.wait_s(now) == fixed_s


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 5),
)
def test_every_camera_is_in_one_process_beside_those_of_its_scorer(cameras, per_process, detectors, limit, scorers):
    ids = [f"c{number}" for number in range(cameras)]
    scorer_of = None if scorers is None else ScorerSlices([f"s{number}" for number in range(scorers)]).scorer_of
    processes = split_cameras(ids, per_process=per_process, detectors=detectors, max_processes=limit, key=scorer_of)
    if scorer_of is not None:
        told = {(number, scorer_of(camera)) for number, process in enumerate(processes) for camera in process}
        assert len(told) <= len(processes) + scorers - 1
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
    assert histogram.quantiles_s(q, 1.0)[0] == pytest.approx(exact, rel=0.02)


def test_an_empty_histogram_has_no_quantile():
    assert LatencyHistogram().quantiles_s(0.5, 0.99) == (None, None)
