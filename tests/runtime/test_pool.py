from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.pool import DetectorPool, LivingDetector

DETECTORS = ("d0", "d1", "d2")
IDLE = LivingDetector(True)


def alive(*names, **holding):
    return {name: LivingDetector(True, holding.get(name, {})) for name in names}


def test_a_spare_detector_takes_over_at_once_and_the_dead_one_becomes_the_spare():
    pool = DetectorPool(DETECTORS[:2], active=1)
    assert pool.assign(["p", "q"], alive("d0", "d1")) == {"d0": ("p", "q"), "d1": ()}
    assert pool.assign(["p", "q"], alive("d1")) == {"d0": (), "d1": ("p", "q")}
    assert pool.assign(["p", "q"], alive("d0", "d1")) == {"d0": (), "d1": ("p", "q")}
    assert pool.owner("p") == "d1"


def test_the_others_take_over_and_one_that_comes_back_is_given_work_again_in_good_order():
    pool = DetectorPool(DETECTORS[:2], active=2)
    processes = ["p", "q", "r", "s"]
    assert [len(pool.assign(processes, alive("d0", "d1"))[d]) for d in DETECTORS[:2]] == [2, 2]
    assert pool.assign(processes, alive("d1"))["d1"] == ("p", "q", "r", "s")
    moving = pool.assign(processes, alive("d0", "d1", d1={"p": 3}))
    assert (len(moving["d0"]), len(moving["d1"])) == (0, 3)  # one is on its way, and waits for its frames
    left = next(iter(set(processes) - set(moving["d1"])))
    assert pool.assign(processes, alive("d0", "d1", d1={left: 1}))["d0"] == ()
    assert pool.assign(processes, alive("d0", "d1"))["d0"] == (left,)


def test_deaths_are_counted_of_those_who_took_and_of_those_who_still_held_frames_and_moves_are_not():
    pool = DetectorPool(DETECTORS[:2], active=2)
    pool.assign(["p", "q"], alive("d0"))
    assert pool.assign(["p", "q"], alive("d0", "d1", d0={"p": 3}))["d1"] == ()  # "p" is on its way
    assert pool.assign(["p", "q"], alive("d0", "d1"))["d1"] == ("p",)
    assert (pool.deaths("p"), pool.deaths("q")) == (0, 0)
    pool.assign(["p", "q"], alive("d0"))
    assert (pool.deaths("p"), pool.deaths("q")) == (1, 0)
    pool.assign(["p", "q"], alive("d0", "d1", d0={"p": 3, "q": 3}))  # one is on its way again
    pool.assign(["p", "q"], alive("d1"))
    assert (pool.deaths("p"), pool.deaths("q")) == (2, 1)
    pool.assign(["p", "q"], {})
    assert (pool.deaths("p"), pool.deaths("q")) == (3, 2)


def test_nothing_is_assigned_while_no_detector_lives():
    pool = DetectorPool(DETECTORS, active=2)
    assert pool.assign(["p"], {}) == {"d0": (), "d1": (), "d2": ()}
    assert pool.owner("p") is None
    assert pool.assign(["p"], alive("d2"))["d2"] == ("p",)


STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(DETECTORS)),
        st.dictionaries(st.sampled_from("pqrstu"), st.integers(0, 2)),
        st.booleans(),
        st.integers(1, 6),
    ),
    max_size=25,
)


@given(STEPS, st.integers(1, 3))
def test_a_process_has_one_detector_at_a_time_and_leaves_a_living_one_only_when_that_holds_nothing_of_it(steps, active):
    pool, owners = DetectorPool(DETECTORS, active), {}
    for living, holding, current, count in steps:
        processes = list("pqrstu"[:count])
        reports = {name: LivingDetector(current, holding) for name in sorted(living)}
        assigned = pool.assign(processes, reports)
        given = [process for members in assigned.values() for process in members]
        assert len(given) == len(set(given))
        assert all(not members for name, members in assigned.items() if name not in living)
        now = {process: name for name, members in assigned.items() for process in members}
        for process, name in now.items():
            assert pool.owner(process) == name
            before = owners.get(process)
            if before not in {None, name} and before in living:
                assert current
                assert not holding.get(process)
        if living and processes:
            assert len(given) >= len(processes) - 1  # at most one is on its way
        known = {process: now.get(process, owners.get(process)) for process in processes}
        owners = {process: name for process, name in known.items() if name in living}


@given(st.integers(1, 12), st.integers(1, 3))
def test_processes_are_shared_evenly_once_everyone_lives(count, active):
    pool, processes = DetectorPool(DETECTORS, active), [f"p{n}" for n in range(count)]
    pool.assign(processes, alive("d2"))
    for _ in range(4 * count):
        assigned = pool.assign(processes, alive(*DETECTORS))
    loads = [len(members) for members in assigned.values() if members]
    assert sum(loads) == count
    assert max(loads) - min(loads) <= 1
    assert len(loads) == min(count, active)
