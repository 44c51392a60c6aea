import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.score import frame_scores, top_cells


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 10.0), (0.1, 10.0), (0.2, 9.5), (1.0, 5.5), (0.01, 10.0)])
def test_the_score_is_the_mean_of_the_highest_values(fraction, expected):
    values = torch.arange(1.0, 11.0)[torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    assert frame_scores(values.view(1, 2, 5), fraction).tolist() == [expected]


@given(value=st.floats(width=32, allow_nan=False), fraction=st.floats(0.0, 1.0))
def test_the_score_of_a_whole_frame_is_the_one_value_there_is(value, fraction):
    assert frame_scores(torch.tensor([[[value]]]), fraction).tolist() == [value]


def test_what_is_not_a_number_is_not_hidden_by_higher_values():
    assert frame_scores(torch.tensor([[[float("nan"), 9.0, 1.0]]]), 0.0).isnan().all()


@given(count=st.integers(1, 9), seed=st.integers(0, 99))
def test_scores_of_frames_do_not_depend_on_their_neighbours(count, seed):
    maps = torch.randn(count, 8, 12, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(frame_scores(maps, 0.05), torch.cat([frame_scores(one, 0.05) for one in maps.split(1)]))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_however_large_a_map_is_its_score_does_not_depend_on_its_neighbours(count):
    threads = torch.get_num_threads()
    torch.set_num_threads(4)  # torch lets several of them sum up one row, where there is no other
    try:
        maps = torch.rand(6, 256, 256, generator=torch.Generator().manual_seed(0))
        together = frame_scores(maps, 1.0)
        assert torch.equal(torch.cat([frame_scores(part, 1.0) for part in maps.split(count)]), together)
    finally:
        torch.set_num_threads(threads)


@given(
    cells=st.lists(st.integers(1, 96), min_size=1, max_size=6), seed=st.integers(0, 99), fraction=st.floats(0.0, 1.0)
)
def test_of_maps_with_cells_left_out_the_top_fraction_is_one_of_what_is_left(cells, seed, fraction):
    maps = torch.randn(len(cells), 8, 12, generator=torch.Generator().manual_seed(seed))
    flat, alone = maps.flatten(1), []
    for row, left in zip(flat, cells, strict=True):
        alone.append(frame_scores(row[None, None, :left].clone(), fraction))
        row[left:] = -torch.inf
    top = top_cells(maps, fraction, cells)
    assert torch.equal(top.mean(top.values), torch.cat(alone))
