"""Events that come in groups tell less of their rate than independent ones, and thresholds say so."""

import numpy as np
import pytest

from pipeline.scoring.grouping import grouping
from pipeline.scoring.poisson import rate_interval

DAY_S = 24 * 3600.0


def test_independent_events_are_taken_for_such():
    random = np.random.default_rng(0)
    found = [grouping(random.uniform(0.0, DAY_S, 100), np.ones(100), DAY_S) for _ in range(200)]
    assert np.mean(np.array(found) == 1.0) > 0.85
    assert max(found) < 2.5


@pytest.mark.parametrize("within_s", [120.0, 1800.0])
def test_groups_of_five_tell_about_as_much_as_one(within_s):
    random = np.random.default_rng(1)
    found = []
    for _ in range(50):
        times = random.uniform(0.0, DAY_S - within_s, 20)[:, None] + random.uniform(0.0, within_s, (20, 5))
        found.append(grouping(times.ravel(), np.ones(100), DAY_S))
    assert 3.0 < np.mean(found) < 7.0
    low, high = rate_interval(25, 24.0, 5.0)
    assert (low, high) == pytest.approx(rate_interval(5, 24.0 / 5.0))
    assert high - low > 2.0 * (rate_interval(25, 24.0)[1] - rate_interval(25, 24.0)[0])


def test_of_too_little_footage_or_no_event_nobody_can_tell():
    assert grouping(np.arange(50.0), np.ones(50), 2000.0) == 1.0
    assert grouping(np.empty(0), np.empty(0), DAY_S) == 1.0
