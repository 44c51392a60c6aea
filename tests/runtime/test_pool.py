from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.pool import DetectorPool, LivingDetector, TakenProcess

DETECTORS = ("d0", "d1", "d2")
IDLE = LivingDetector(True)


def alive(*names, **holding):
    return {name: LivingDetector(True, holding.get(name, {})) for name in names}


def one_each(processes):
    """Camera processes of one camera."""
    return {process: TakenProcess() for process in processes}


def test_a_spare_detector_takes_over_at_once_and_the_dead_one_becomes_the_spare():
    pool = DetectorPool(DETECTORS[:2], active=1)
    assert pool.assign(one_each(["p", "q"]), alive("d0", "d1")) == {"d0": ("p", "q"), "d1": ()}
    assert pool.assign(one_each(["p", "q"]), alive("d1")) == {"d0": (), "d1": ("p", "q")}
    assert pool.assign(one_each(["p", "q"]), alive("d0", "d1")) == {"d0": (), "d1": ("p", "q")}
    assert pool.owner("p") == "d1"


def test_the_others_take_over_and_one_that_comes_back_is_given_work_again_in_good_order():
    pool = DetectorPool(DETECTORS[:2], active=2)
    processes = ["p", "q", "r", "s"]
    assert [len(pool.assign(one_each(processes), alive("d0", "d1"))[d]) for d in DETECTORS[:2]] == [2, 2]
    assert pool.assign(one_each(processes), alive("d1"))["d1"] == ("p", "q", "r", "s")
    moving = pool.assign(one_each(processes), alive("d0", "d1", d1={"p": 3}))
    assert (len(moving["d0"]), len(moving["d1"])) == (0, 3)  # one is on its way, and waits for its frames
    left = next(iter(set(processes) - set(moving["d1"])))
    assert pool.assign(one_each(processes), alive("d0", "d1", d1={left: 1}))["d0"] == ()
    assert pool.assign(one_each(processes), alive("d0", "d1"))["d0"] == (left,)


def test_deaths_are_counted_of_those_who_took_and_of_those_who_still_held_frames_and_moves_are_not():
    pool = DetectorPool(DETECTORS[:2], active=2)
    pool.assign(one_each(["p", "q"]), alive("d0"))
    assert pool.assign(one_each(["p", "q"]), alive("d0", "d1", d0={"p": 3}))["d1"] == ()  # "p" is on its way
    assert pool.assign(one_each(["p", "q"]), alive("d0", "d1"))["d1"] == ("p",)
    assert (pool.deaths("p"), pool.deaths("q")) == (0, 0)
    pool.assign(one_each(["p", "q"]), alive("d0"))
    assert (pool.deaths("p"), pool.deaths("q")) == (1, 0)
    pool.assign(one_each(["p", "q"]), alive("d0", "d1", d0={"p": 3, "q": 3}))  # one is on its way again
    pool.assign(one_each(["p", "q"]), alive("d1"))
    assert (pool.deaths("p"), pool.deaths("q")) == (2, 1)
    pool.assign(one_each(["p", "q"]), {})
    assert (pool.deaths("p"), pool.deaths("q")) == (3, 2)


def test_nothing_is_assigned_while_no_detector_lives():
    pool = DetectorPool(DETECTORS, active=2)
    assert pool.assign(one_each(["p"]), {}) == {"d0": (), "d1": (), "d2": ()}
    assert pool.owner("p") is None
    assert pool.assign(one_each(["p"]), alive("d2"))["d2"] == ("p",)


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
        assigned = pool.assign(one_each(processes), reports)
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
            assert len(given) >= len(processes) - 2  # one is on its way, or two that are exchanged
        known = {process: now.get(process, owners.get(process)) for process in processes}
        owners = {process: name for process, name in known.items() if name in living}


@given(st.integers(1, 12), st.integers(1, 3))
def test_processes_are_shared_evenly_once_everyone_lives(count, active):
    pool, processes = DetectorPool(DETECTORS, active), [f"p{n}" for n in range(count)]
    pool.assign(one_each(processes), alive("d2"))
    for _ in range(4 * count):
        assigned = pool.assign(one_each(processes), alive(*DETECTORS))
    loads = [len(members) for members in assigned.values() if members]
    assert sum(loads) == count
    assert max(loads) - min(loads) <= 1
    assert len(loads) == min(count, active)


def test_a_retired_detector_is_given_nothing_goes_on_alone_and_leaves_once_another_lives_and_it_holds_nothing():
    pool, processes = DetectorPool(DETECTORS[:1], active=1), one_each("pq")
    pool.assign(processes, alive("d0"))
    pool.add(["d1"])
    pool.retire(["d0"])
    assert pool.assign(processes, alive("d0"))["d0"] == ("p", "q")  # the other one still loads its model
    assert pool.assign(processes, alive("d0", "d1", d0={"p": 1})) == {"d0": (), "d1": ()}
    assert pool.assign(processes, alive("d0", "d1", d0={"p": 1})) == {"d0": (), "d1": ("q",)}
    assert pool.assign(processes, alive("d0", "d1")) == {"d1": ("p", "q")}
    assert pool.detectors == ("d1",)
    assert (pool.deaths("p"), pool.deaths("q")) == (0, 0)


def test_a_retired_detector_stays_until_it_knows_that_it_takes_from_nobody():
    pool, processes = DetectorPool(DETECTORS[:2], active=2), one_each("p")
    pool.assign(processes, alive("d0", "d1"))
    pool.retire(["d0"])
    for _ in range(3):
        assert pool.assign(processes, alive("d1") | {"d0": LivingDetector(False)}) == {"d0": (), "d1": ()}
    assert pool.assign(processes, alive("d0", "d1")) == {"d1": ("p",)}


def test_a_retired_detector_that_dies_leaves_at_once_and_its_death_counts():
    pool, processes = DetectorPool(DETECTORS[:2], active=2), one_each("p")
    pool.assign(processes, alive("d0", "d1"))
    pool.retire(["d0"])
    pool.assign(processes, alive("d0", "d1", d0={"p": 1}))
    assert pool.assign(processes, alive("d1")) == {"d1": ("p",)}
    assert pool.deaths("p") == 1


def on(node, **holding):
    return LivingDetector(True, holding, node)


def test_a_process_is_taken_by_a_detector_on_its_own_node_where_one_has_room():
    pool = DetectorPool(DETECTORS[:2], active=2)
    processes = {name: TakenProcess(2, node) for name, node in zip("pqrs", "BABA", strict=True)}
    living = {"d0": on("A"), "d1": on("B")}
    assert pool.assign(processes, living) == {"d0": ("q", "s"), "d1": ("p", "r")}
    processes = {name: TakenProcess(2, "A") for name in "pqrs"}
    assert [len(members) for members in DetectorPool(DETECTORS[:2], 2).assign(processes, living).values()] == [2, 2]


def test_processes_come_home_when_a_detector_comes_up_on_their_node():
    pool = DetectorPool(DETECTORS[:2], active=2)
    processes = {name: TakenProcess(1, node) for name, node in zip("pqrs", "ABAB", strict=True)}
    pool.assign(processes, {"d0": on("A")})
    for _ in range(10):
        assigned = pool.assign(processes, {"d0": on("A"), "d1": on("B")})
    assert assigned == {"d0": ("p", "r"), "d1": ("q", "s")}


def test_two_processes_that_are_both_away_from_home_are_exchanged():
    pool = DetectorPool(DETECTORS[:2], active=2)
    living = {"d0": on("A"), "d1": on("B")}
    pool.assign(one_each("pq"), living)  # nobody knows yet where they are
    processes = {"p": TakenProcess(1, "B"), "q": TakenProcess(1, "A")}
    for _ in range(3):
        assigned = pool.assign(processes, living)
    assert assigned == {"d0": ("q",), "d1": ("p",)}


SIZES_AND_NODES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["A", "B", ""])), min_size=1, max_size=9)


@given(SIZES_AND_NODES, SIZES_AND_NODES, st.lists(st.sampled_from(["A", "B", ""]), min_size=1, max_size=3))
def test_moves_come_to_an_end_whatever_was_before_and_no_single_move_would_even_out_more(before, after, nodes):
    pool = DetectorPool(DETECTORS[: len(nodes)], active=len(nodes))
    living = {name: on(node) for name, node in zip(DETECTORS, nodes, strict=False)}
    for members in (before, after):
        processes = {f"p{number}": TakenProcess(*member) for number, member in enumerate(members)}
        assigned = pool.assign(processes, living)
        for _ in range(200):
            last, assigned = assigned, pool.assign(processes, living)
            if last == assigned and sum(map(len, assigned.values())) == len(processes):
                break
        else:
            raise AssertionError("it moves without end")
    loads = {name: sum(processes[process].cameras for process in taken) for name, taken in assigned.items()}
    for name, taken in assigned.items():
        for process in taken:
            cameras, node = processes[process].cameras, processes[process].node
            for other, load in loads.items():
                assert not 0 < cameras < loads[name] - load
                if node and living[other].node == node != living[name].node:
                    assert cameras > loads[name] - load
