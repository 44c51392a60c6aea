"""What a log shows of work under way: lines at a pace a person can read, by a clock that the test turns."""

import io

import pytest
from rich.console import Console

from pipeline.console.progress import Bar, LineClock, TrainingBars, progress_bars


class Log:
    """Stages shown in a log, and the clock they go by."""

    def __init__(self):
        self.now_s = 100.0
        self._file = io.StringIO()
        self._said = 0

    def clock(self):
        return self.now_s

    def stages(self):
        return progress_bars(Console(file=self._file, width=40), self.clock)

    def new_lines(self):
        lines = self._file.getvalue().splitlines()
        fresh, self._said = lines[self._said :], len(lines)
        return fresh


@pytest.fixture
def log():
    return Log()


def test_a_stage_is_reported_at_once_then_every_twenty_seconds_and_at_its_end(log):
    with log.stages() as stages:
        bar = Bar(stages, "features")
        bar(0, 1200)
        assert log.new_lines() == ["features: 0 of 1,200 (0 %)"]
        told = []
        for done in range(1, 1201):
            log.now_s += 0.125
            bar(done, 1200)
            told += [(log.now_s - 100.0, line) for line in log.new_lines()]
    assert [at_s for at_s, _ in told] == [20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0, 150.0]
    assert told[0][1] == "features: 160 of 1,200 (13 %), 8.0 per second, 0:02:10 left"
    assert told[-1][1] == "features: 1,200 of 1,200 (100 %), took 0:02:30"
    assert log.new_lines() == []


def test_rates_count_from_the_last_line_so_that_what_was_there_already_tells_no_lie(log):
    with log.stages() as stages:
        bar = Bar(stages, "features")
        bar(5000, 6000)
        log.now_s += 20.0
        bar(5020, 6000)
        log.now_s += 20.0
        bar(5060, 6000)
    assert log.new_lines() == [
        "features: 5,000 of 6,000 (83 %)",
        "features: 5,020 of 6,000 (83 %), 1.0 per second, 0:16:20 left",
        "features: 5,060 of 6,000 (84 %), 2.0 per second, 0:07:50 left",
    ]


def test_a_training_tells_its_stages_and_losses(log):
    with log.stages() as stages:
        bars = TrainingBars(stages, "padim")
        bars.features(8, 8)
        bars.step(0, 1, 90, {"stride 8": 1.25, "stride 16": 0.5})
        log.now_s += 30.0
        bars.step(2, 61, 90, {"stride 8": 1.0, "stride 16": 0.25})
        bars.step(2, 90, 90, {"stride 8": 1.0, "stride 16": 0.125})
        bars.heldout(2, 4)
        bars.heldout(4, 4)
    assert log.new_lines() == [
        "features: 8 of 8 (100 %), took 0:00:00",
        "padim: 1 of 90 (1 %), epoch 1  stride 8: 1.2500  stride 16: 0.5000",
        "padim: 61 of 90 (67 %), 2.0 per second, 0:00:14 left, epoch 3  stride 8: 1.0000  stride 16: 0.2500",
        "padim: 90 of 90 (100 %), took 0:00:30, epoch 3  stride 8: 1.0000  stride 16: 0.1250",
        "held-out scores: 2 of 4 (50 %)",
        "held-out scores: 4 of 4 (100 %), took 0:00:00",
    ]


def test_what_has_no_end_is_reported_every_minute_also_when_nothing_moves(log):
    with log.stages() as stages:
        bar = Bar(stages, "starting actors")
        bar(0, None)
        bar.rename("scored")
        for second in range(241):
            bar(15 * min(second, 90), None, "2 dropped" if second > 100 else "")
            log.now_s += 1.0
    assert log.new_lines() == [
        "starting actors: 0",
        "scored: 0",
        "scored: 900, 15.0 per second",
        "scored: 1,350, 7.5 per second, 2 dropped",
        "scored: 1,350, 2 dropped",
        "scored: 1,350, 2 dropped",
    ]


def test_how_far_it_came_is_told_when_it_is_cut_short(log):
    with pytest.raises(KeyboardInterrupt), log.stages() as stages:
        bar = Bar(stages, "evaluating")
        bar(0, 100)
        log.now_s += 10.0
        bar(30, 100)
        raise KeyboardInterrupt
    assert log.new_lines() == [
        "evaluating: 0 of 100 (0 %)",
        "evaluating: 30 of 100 (30 %), 3.0 per second, 0:00:23 left",
    ]


def test_a_stage_that_is_done_is_reported_once_however_often_it_is_shown(log):
    with log.stages() as stages:
        bar = Bar(stages, "scored")
        bar(5, 10)
        for _ in range(100):
            log.now_s += 1.0
            bar(10, 10)
    assert log.new_lines() == ["scored: 5 of 10 (50 %)", "scored: 10 of 10 (100 %), took 0:00:01"]


def test_a_total_that_grows_with_what_is_done_is_reported_at_the_pace(log):
    with log.stages() as stages:
        bar = Bar(stages, "features")
        for done in range(1, 101):
            bar(done, done)
            log.now_s += 0.5
    lines = log.new_lines()
    assert [line.split(" of ")[0] for line in lines] == [f"features: {done}" for done in (1, 41, 81, 100)]


def test_a_stage_that_never_began_is_not_reported(log):
    with log.stages() as stages:
        TrainingBars(stages)
    assert log.new_lines() == []


def test_a_terminal_gets_a_bar_that_moves():
    file = io.StringIO()
    with progress_bars(Console(file=file, width=120, force_terminal=True)) as stages:
        bar = Bar(stages, "features")
        bar(0, 4)
        bar.rename("more features")
        bar(4, 4, "a [note]")
    shown = file.getvalue()
    assert "\x1b[" in shown and "4/4" in shown and "more features" in shown and "a [note]" in shown
    assert " of 4" not in shown


def test_a_line_is_due_at_once_and_then_every_so_often(log):
    for endless, every_s in ((False, 20.0), (True, 60.0)):
        line_clock = LineClock(endless=endless, now=log.clock)
        assert [line_clock.is_due(), line_clock.is_due()] == [True, False]
        log.now_s += every_s - 0.5
        assert not line_clock.is_due()
        log.now_s += 0.5
        assert [line_clock.is_due(), line_clock.is_due()] == [True, False]
