"""What the command of a training on several machines learns of its workers."""

from actors.training_store import MOST_FUTILE, Outcome, TrainingStore, WorkerProgress


def test_workers_shares_are_added_up_and_the_first_one_tells_the_steps(tmp_path):
    store = TrainingStore(tmp_path)
    assert store.begin(2)
    store.tell(1, WorkerProgress(features=(3, 10), passed_over=("b.mp4: torn",)))
    store.tell(0, WorkerProgress(features=(4, 20), step=(0, 5, 8, {"stride 8": 1.0}), passed_over=("a.mp4: torn",)))
    report = store.report()
    assert report.progress.features == (7, 30)
    assert report.progress.step == (0, 5, 8, {"stride 8": 1.0})
    assert report.progress.passed_over == ("b.mp4: torn", "a.mp4: torn")
    assert (report.starts, report.workers, report.is_over) == (1, 2, False)


def test_what_was_passed_over_stays_known_when_workers_begin_again_and_the_rest_is_theirs(tmp_path):
    store = TrainingStore(tmp_path)
    store.begin(2)
    store.tell(1, WorkerProgress(features=(3, 10), passed_over=("b.mp4: torn",)))
    assert store.begin(1)
    report = store.report()
    assert report.progress == WorkerProgress(passed_over=("b.mp4: torn",))
    assert (report.starts, report.workers) == (2, 1)


def test_workers_that_die_at_the_same_point_again_and_again_are_given_up_in_one_line(tmp_path):
    store = TrainingStore(tmp_path)
    for _ in range(MOST_FUTILE):
        assert store.begin(2)
        store.tell(0, WorkerProgress(features=(3, 10)))
        store.failed("MemoryError: out of memory")
    assert store.begin(2)  # the first of them came further than nothing
    assert not store.begin(2)
    assert store.outcome() == Outcome(
        error=(
            "RunError",
            "expected workers that live, got 3 starts that ended at the same point: MemoryError: out of memory",
        )
    )


def test_workers_that_come_further_every_time_are_never_given_up(tmp_path):
    store = TrainingStore(tmp_path)
    for step in range(1, 50):
        assert store.begin(2)
        store.tell(0, WorkerProgress(step=(0, step, 100, {})))


def test_the_state_is_that_of_the_folder(tmp_path):
    assert TrainingStore(tmp_path).state() is None
    TrainingStore(tmp_path).keep_state(b"weights")
    assert TrainingStore(tmp_path).state() == b"weights"


def test_a_worker_learns_that_it_is_to_stop(tmp_path):
    store = TrainingStore(tmp_path)
    store.begin(1)
    assert store.tell(0, WorkerProgress()) is False
    store.stop()
    assert store.tell(0, WorkerProgress()) is True
