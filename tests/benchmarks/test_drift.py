"""The benchmark of drift: too little footage is said, no drift is told where there is none, and a clear one soon."""

from benchmarks.drift import measure


def test_a_row_says_what_cameras_with_so_much_footage_are_told():
    row = measure(1.0, cameras=1, days=0.2)
    assert (row["unable"], row["told_falsely"]) == (0, 0)
    assert 0.0 < row["told_after_min"]["+1"][0] < 30.0
    row = measure(0.02, cameras=2, days=0.2)
    assert (row["unable"], row["told_after_min"]["+1"]) == (2, [])
