"""From normal footage to thresholds: what they promise is what the real smoother and tracker then do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget import rate_in_words
from pipeline.calibrate.promises import Promise
from pipeline.camera_settings import AlertSettings
from pipeline.scoring.event_counting import Peaks
from pipeline.scoring.poisson import rate_interval
from pipeline.scoring.smoothed import smoothed
from pipeline.scoring.threshold_law import thresholds_of
from pipeline.scoring.thresholds import LONGEST_H
from tests.scoring.footage import busy_scores, really_opened, stretch

FPS = 4.0


def made(stretches, **alerts):
    settings = AlertSettings(**alerts)
    return thresholds_of(smoothed(stretches, None, settings.smoothing_s), settings)


@pytest.mark.parametrize(("budget", "hours"), [("30/hour", 2.0), ("2/hour", 2.0), ("1/day", 2.0)])
def test_normal_footage_itself_opens_no_more_events_than_the_budget(budget, hours):
    scores = busy_scores(hours, FPS, seed=0)
    thresholds = made([stretch(scores, FPS)], budget=budget)
    opened = really_opened(scores, FPS, AlertSettings(), thresholds.opening, thresholds.closing)
    assert opened == {"30/hour": 60, "2/hour": opened, "1/day": 0}[budget]
    assert opened <= {"30/hour": 60, "2/hour": 4, "1/day": 0}[budget]
    low, high = thresholds.interval_per_hour
    assert low <= thresholds.expected_per_hour <= high
    assert (low, high) == pytest.approx(rate_interval(opened, hours), rel=0.2)


def test_footage_that_comes_later_opens_as_many_as_promised():
    """Cameras with a day of footage each, at three budgets, and a week on which nobody has looked."""
    later = smoothed([stretch(busy_scores(168.0, 2.0, seed=99), 2.0)], None, 0.3)
    inside, rates = [], []
    for budget, per_hour in (("2/hour", 2.0), ("1/hour", 1.0), ("1/4h", 0.25)):
        for camera in range(20, 25):
            thresholds = made([stretch(busy_scores(24.0, 2.0, seed=camera), 2.0)], budget=budget)
            rate = Peaks.of(later, thresholds.closing, AlertSettings()).counted(thresholds.opening) / 168.0
            low, high = thresholds.interval_per_hour
            inside.append(low <= rate <= high)
            rates.append(rate / per_hour)
            assert not thresholds.provisional
    assert sum(inside) >= 14
    assert np.mean(rates) == pytest.approx(1.0, abs=0.15)


def test_the_less_footage_there_is_the_wider_is_what_it_says_and_it_says_what_is_missing():
    scores = busy_scores(16.0, FPS, seed=3)
    told = [made([stretch(scores[: round(part * len(scores))], FPS)], budget="1/4h") for part in (1.0, 0.5, 0.05)]
    widths = [high - low for low, high in (one.interval_per_hour for one in told)]
    assert widths == sorted(widths)
    assert [round(one.hours, 1) for one in told] == [16.0, 8.0, 0.8]
    assert [one.provisional for one in told] == [False, True, True]
    assert [round(one.hours_missing, 1) for one in told] == [0.0, 4.0, 11.2]


lives = st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 8)), min_size=1, max_size=30).map(
    lambda runs: [level for level, frames in runs for _ in range(frames)]
)
budgets = st.sampled_from(["1/week", "1/day", "2/hour", "100/hour", "2000/hour"])


@given(lives, budgets, st.lists(st.tuples(lives, st.sampled_from(["own", "light", "learned"])), max_size=3))
def test_known_normal_footage_keeps_to_the_budget_whatever_it_looks_like(scores, budget, others):
    stretches = [stretch(scores), *(stretch(other, kind=kind) for other, kind in others)]
    thresholds = made(stretches, budget=budget)
    assert np.isfinite(thresholds.opening)
    assert thresholds.closing <= thresholds.opening
    per_hour = {"1/week": 1 / 168, "1/day": 1 / 24, "2/hour": 2.0, "100/hour": 100.0, "2000/hour": 2000.0}[budget]
    for kind in ("own", "learned"):
        of_kind = [one for one in stretches if one.kind == kind]
        opened = sum(
            really_opened(one.scores, one.fps, AlertSettings(), thresholds.opening, thresholds.closing)
            for one in of_kind
        )
        assert opened <= per_hour * sum(one.hours for one in of_kind) + 1e-9
    assert thresholds.hours == pytest.approx(sum(one.hours for one in stretches if one.kind == "own"))
    rarities = [thresholds.once_in_h(score) for score in sorted((-99.0, thresholds.opening, 10.0, 99.0))]
    assert rarities == sorted(rarities)
    assert rarities[-1] <= LONGEST_H


def test_a_higher_budget_never_has_a_higher_threshold():
    scores = [stretch(busy_scores(1.0, FPS, seed=5), FPS)]
    openings = [made(scores, budget=f"{events}/hour").opening for events in (0.01, 0.1, 1, 3, 9, 12, 30, 100, 1000)]
    assert openings == sorted(openings, reverse=True)
    assert openings[-1] == made(scores, budget="1000/hour").closing


def test_other_light_may_raise_a_threshold_but_one_drawn_light_alone_does_not_decide_it():
    calm = busy_scores(1.0, FPS, seed=6)
    alone = made([stretch(calm, FPS)], budget="2/hour")
    flare = np.where(np.arange(len(calm)) % 7000 < 20, 90.0, calm)  # three times in this hour
    thrice = made([stretch(calm, FPS), stretch(flare, FPS, "light")], budget="1/day")
    once = made([stretch(calm, FPS), stretch(np.where(np.arange(len(calm)) < 20, 90.0, calm), FPS, "light")])
    assert thrice.opening > 80.0
    assert alone.opening <= once.opening < 40.0
    assert thrice.hours == once.hours == 1.0


def test_frames_that_were_learned_from_raise_a_threshold_and_prove_nothing():
    calm, loud = busy_scores(0.5, FPS, seed=7), busy_scores(0.5, FPS, seed=7) * 3.0
    alone = made([stretch(calm, FPS)])
    beside = made([stretch(calm, FPS), stretch(loud, FPS, "learned")])
    assert beside.opening > loud.max() * 0.5 > alone.opening * 0.5
    assert (beside.hours, beside.provisional) == (0.5, True)
    only = made([stretch(calm, FPS, "learned")])
    assert (only.hours, only.interval_per_hour, only.provisional) == (0.0, None, True)
    assert only.opening == alone.opening


def test_events_that_come_in_groups_promise_less_and_ask_for_more_footage():
    random = np.random.default_rng(0)
    scores = busy_scores(24.0, FPS, seed=10)
    for begin in random.integers(0, len(scores) - 1200, 30):  # thirty times a day somebody walks up and down
        for at in begin + random.integers(0, 1180, 6):
            scores[at : at + 12] += 12.0
    thresholds = made([stretch(scores, FPS)], budget="2/hour")
    assert thresholds.rates.grouping > 2.0
    low, high = thresholds.interval_per_hour
    alone = rate_interval(thresholds.rates.peaks.counted(thresholds.opening), 24.0)
    assert high - low > 1.4 * (alone[1] - alone[0])
    rare = made([stretch(scores, FPS)], budget="1/4h")
    assert rare.hours_missing == pytest.approx(rare.rates.grouping * 11.98 - 24.0, abs=0.1)
    assert rare.provisional
    assert rare.supported_per_hour == pytest.approx(0.25 * (24.0 + rare.hours_missing) / 24.0)
    assert f"supports {rate_in_words(rare.supported_per_hour)} at best" in Promise("c", "s", (), "1/4h", rare).verdict


def test_a_quantile_is_counted_too_and_promises_nothing():
    scores = busy_scores(2.0, FPS, seed=8)
    thresholds = made([stretch(scores, FPS)], quantile=0.999)
    opened = really_opened(scores, FPS, AlertSettings(), thresholds.opening, thresholds.closing)
    assert thresholds.expected_per_hour == pytest.approx(max(opened, 1) / 2.0, rel=0.5)
    assert (thresholds.provisional, thresholds.hours_missing) == (False, 0.0)


def test_rarity_is_read_off_what_was_counted_and_beyond_that_off_the_law():
    scores = [stretch(busy_scores(24.0, FPS, seed=9), FPS)]
    for budget, once_in_h in (("1/hour", 1.0), ("1/day", 24.0)):
        thresholds = made(scores, budget=budget)
        assert thresholds.once_in_h(thresholds.opening) == pytest.approx(once_in_h, rel=0.2)
        assert thresholds.once_in_h(thresholds.opening) == pytest.approx(1 / thresholds.expected_per_hour)
    assert thresholds.once_in_h(1e9) == LONGEST_H
