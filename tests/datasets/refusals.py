"""What is said of a folder that is no data set."""

from pathlib import Path

import pytest

from pipeline.datasets.detect import open_dataset
from pipeline.errors import DatasetError


def complaint(root, need="any") -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(Path(root), need=need)
    first_line, *rest = str(caught.value).split("\n")
    assert not rest or rest[0].startswith("Data sets are downloaded by hand")
    return first_line
