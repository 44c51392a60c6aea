"""Sums over processes that come and go: nothing is counted twice, and nothing ever decreases."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.tally import BATCH_FRAMES, SECONDS, Histogram, RunTally, Tally

ACTORS = ("detector-0", "detector-1")
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTORS), st.sampled_from(["count", "report", "say nothing", "die"]), st.integers(1, 300)),
    max_size=40,
)


class Process:
    """What one process counts; reports of it are values."""

    def __init__(self, began_at_s):
        self.began_at_s, self.sizes, self.lost = began_at_s, Histogram(BATCH_FRAMES), 0

    def tally(self):
        return Tally(self.began_at_s, {"batch_frames": self.sizes.counts()}, {"parquet": self.lost})


@given(STEPS)
def test_the_sums_are_what_was_reported_of_all_processes_whoever_died_in_between(steps):
    run, began = RunTally(began_at_s=0.0), 1.0
    living = {name: Process(began) for name in ACTORS}
    reported, sums = {}, (0, 0.0, 0)
    for name, what, size in steps:
        process = living[name]
        if what == "count":
            process.sizes.add(size, times=2)
            process.lost += 1
        elif what == "die":
            began += 1.0
            living[name] = Process(began)
        elif what == "say nothing":
            run.update(dict.fromkeys(ACTORS))
        else:
            reported[process] = process.tally()
            run.update({**dict.fromkeys(ACTORS), name: reported[process]})
        counts = run.histograms["batch_frames"]
        before, sums = sums, (sum(counts.buckets), counts.total, run.rows_lost.get("parquet", 0))
        assert all(now >= then for now, then in zip(sums, before, strict=True))
    assert sums == (
        sum(sum(tally.histograms["batch_frames"].buckets) for tally in reported.values()),
        sum(tally.histograms["batch_frames"].total for tally in reported.values()),
        sum(tally.rows_lost["parquet"] for tally in reported.values()),
    )


def test_of_a_process_that_is_older_than_the_watching_only_what_it_does_from_then_on_counts():
    run, old = RunTally(began_at_s=100.0), Process(began_at_s=50.0)
    old.sizes.add(4, times=1000)
    run.update({"detector-0": old.tally()})
    assert sum(run.histograms["batch_frames"].buckets) == 0
    old.sizes.add(4)
    run.update({"detector-0": old.tally()})
    assert run.histograms["batch_frames"].total == 4


def test_a_value_belongs_to_the_first_bucket_whose_edge_it_does_not_exceed():
    histogram = Histogram(SECONDS)
    for value in (0.0, SECONDS[0], SECONDS[1], 1e9):
        histogram.add(value)
    buckets = histogram.counts().buckets
    assert (buckets[0], buckets[1], buckets[-1], sum(buckets)) == (2, 1, 1, 4)
