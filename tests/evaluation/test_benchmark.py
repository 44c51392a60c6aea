import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.benchmark import BatchCost, Costs, batch_sizes, capacity

seconds = st.floats(1e-5, 1.0)


def costs(*, decode=0.001, wall=0.01, cpu=0.02, sinks=0.0005, cores=2, device="cpu"):
    return Costs(decode, (BatchCost(1, 2 * wall, 2 * cpu), BatchCost(8, wall, cpu)), sinks, cores, device)


def test_on_a_cpu_all_stages_share_the_cores_and_the_greediest_is_the_bottleneck():
    # 10 frames/s of a camera: 10 ms of decoding, 200 ms of inference, 5 ms of sinks; 1.5 of 2 cores are planned for.
    found = capacity(costs(), scored_fps=10, stream_fps=10, usable=0.75)
    assert found.cameras == int(1.5 / 0.215)
    assert found.bottleneck == "inference"
    assert found.cores_used["inference"] == pytest.approx(found.cameras * 0.2)
    assert found.device_used is None


def test_a_camera_that_sends_far_more_than_is_scored_makes_decoding_the_bottleneck():
    assert capacity(costs(), scored_fps=1, stream_fps=50).bottleneck == "decode"


def test_a_slow_gpu_is_the_bottleneck_and_a_fast_one_leaves_it_to_the_cores():
    slow = capacity(costs(wall=0.02, cpu=0.0001, cores=64, device="cuda"), scored_fps=5, stream_fps=5, usable=1.0)
    assert (slow.cameras, slow.bottleneck) == (10, "inference")
    assert slow.device_used == pytest.approx(1.0)
    fast = capacity(costs(wall=1e-5, cpu=0.0001, cores=2, device="cuda"), scored_fps=5, stream_fps=25)
    assert fast.bottleneck == "decode"


def test_a_scorer_has_one_core_however_many_there_are_and_there_are_more_scorers_where_many_cameras_are():
    slow, fast = (costs(decode=1e-5, wall=1e-5, cpu=1e-5, sinks=sinks, cores=64) for sinks in (0.01, 0.001))
    found = capacity(slow, scored_fps=1, stream_fps=1)
    assert (found.cameras, found.bottleneck, found.alone["sinks"]) == (75, "sinks", 75)
    assert [capacity(slow, scored_fps=1, stream_fps=1, scorers=scorers).cameras for scorers in (1, 2)] == [75, 150]
    assert capacity(fast, scored_fps=1, stream_fps=1, scorers=1).cameras == 750
    assert capacity(fast, scored_fps=1, stream_fps=1).cameras > 10_000  # one scorer per 200 of them


def test_threads_that_wait_for_each_other_are_not_taken_for_free():
    waiting = capacity(costs(decode=1e-6, sinks=1e-6, wall=0.1, cpu=0.05, cores=1), scored_fps=1, stream_fps=1)
    assert waiting.cameras == 7


@given(seconds, seconds, seconds, seconds, st.integers(1, 64), st.sampled_from(["cpu", "cuda"]), st.floats(0.1, 60.0))
def test_what_is_predicted_fits_and_one_more_camera_does_not(decode, wall, cpu, sinks, cores, device, fps):
    of = costs(decode=decode, wall=wall, cpu=cpu, sinks=sinks, cores=cores, device=device)
    found = capacity(of, scored_fps=fps, stream_fps=fps, scorers=1, usable=0.75)
    assert all(found.cameras <= alone + 1e-6 for alone in found.alone.values())
    one = {stage: fps * used for stage, used in (("decode", decode), ("sinks", sinks))}
    inference = fps * (max(cpu, wall) if device == "cpu" else cpu)
    used = [sum(one.values(), inference) / cores, one["sinks"], 0.0 if device == "cpu" else fps * wall]
    assert max(used) * found.cameras <= 0.75 + 1e-6
    assert max(used) * (found.cameras + 1) > 0.75 - 1e-6


@pytest.mark.parametrize(("scored", "sent"), [(0.0, 10.0), (10.0, 5.0), (-1.0, 5.0), (5.0, float("inf"))])
def test_rates_that_make_no_sense_are_refused(scored, sent):
    with pytest.raises(ValueError, match="frames/s"):
        capacity(costs(), scored_fps=scored, stream_fps=sent)


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])])
def test_batches_grow_up_to_the_largest(largest, sizes):
    assert batch_sizes(largest) == sizes
