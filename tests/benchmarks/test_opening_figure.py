import matplotlib.image
import numpy as np
import pytest

from benchmarks.opening_figure import KINDS, draw, fit_flow, fit_gaussian, fit_neighbours, make_toy, missed


@pytest.fixture(scope="module")
def toy():
    return make_toy()


@pytest.fixture(scope="module")
def flow(toy):
    return fit_flow(toy.train)


def test_the_flow_ranks_every_anomaly_above_every_normal_point(toy, flow):
    assert missed(flow, toy) == dict.fromkeys(KINDS, 0)


def test_a_gaussian_fails_on_what_lies_where_nothing_is(toy):
    fails = missed(fit_gaussian(toy.train), toy)
    assert fails["global"] == 0
    assert fails["local"] == len(toy.anomalies["local"])
    assert fails["micro-cluster"] == len(toy.anomalies["micro-cluster"])


def test_nearest_neighbours_are_shown_beside_them(toy):
    scores = fit_neighbours(toy.train)
    assert scores(toy.anomalies["global"]).min() > scores(toy.normal).max()


def test_the_picture_is_drawn(toy, tmp_path):
    draw(toy, {"Gaussian": fit_gaussian(toy.train)}, tmp_path / "f" / "opening.png")
    assert np.ptp(matplotlib.image.imread(tmp_path / "f" / "opening.png")) > 0.5


def test_the_points_are_the_same_for_the_same_seed(toy):
    assert np.array_equal(make_toy().train, toy.train)
    assert not np.array_equal(make_toy(seed=1).train, toy.train)
