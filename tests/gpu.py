"""The mark of tests that need a GPU."""

import pytest
import torch

# conftest.py tolerates these words where no skip is tolerated: no package brings a GPU.
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine lets nobody use a GPU: it has none")
