import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.anomaly_model import rows_of
from pipeline.models.condition import CameraEmbedding, position_encoding


@given(quarter=st.integers(1, 32), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_position_encoding_follows_the_papers_formula(quarter, height, width):
    dims = 4 * quarter
    table = position_encoding(dims, height, width).view(height, width, dims)
    half = dims // 2
    y, x = height - 1, width - 1
    for i in range(quarter):
        frequency = 10_000.0 ** (-2 * i / half)
        expected = [
            math.sin(x * frequency),
            math.cos(x * frequency),
            math.sin(y * frequency),
            math.cos(y * frequency),
        ]
        got = table[y, x, [2 * i, 2 * i + 1, half + 2 * i, half + 2 * i + 1]]
        assert got.tolist() == pytest.approx(expected, abs=1e-6)


def test_every_position_of_a_map_has_an_encoding_of_its_own():
    table = position_encoding(128, 32, 48)
    assert table.shape == (32 * 48, 128)
    assert torch.cdist(table, table).fill_diagonal_(1.0).min() > 0.05


@pytest.mark.parametrize("dims", [0, -4, 2, 126])
def test_a_length_that_is_no_multiple_of_four_is_refused(dims):
    with pytest.raises(ValueError, match=f"multiple of 4, got {dims}"):
        position_encoding(dims, 2, 2)


def test_an_unknown_scene_gets_the_mean_of_all_embeddings():
    embedding = CameraEmbedding(["gate", "yard", "roof"], 5)
    rows = rows_of(["roof", "cellar", "gate"], embedding.row_of)
    vectors = embedding.table()[rows]
    assert torch.equal(vectors[0], embedding.vectors[2])
    assert torch.equal(vectors[2], embedding.vectors[0])
    torch.testing.assert_close(vectors[1], embedding.vectors.mean(dim=0))
