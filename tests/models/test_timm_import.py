"""What building an encoder imports."""

import subprocess
import sys
from pathlib import Path

from tests.models.tiny import tiny_checkpoint

ROOT = Path(__file__).parents[2]

LOAD = """
import sys
from pathlib import Path

from pipeline.inference.engine import Engine

Engine.load(Path(sys.argv[1])).warm_up(2)
compiler = {"torch._dynamo", "torch._dynamo.utils", "sympy"}
assert not compiler & sys.modules.keys(), compiler & sys.modules.keys()

import torchvision
from timm.models.naflexvit import NaFlexRopeIterator

asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
assert compiler <= sys.modules.keys()
from torch._dynamo.utils import is_compile_supported
assert asked == is_compile_supported("cpu")
assert NaFlexRopeIterator.__next__._torchdynamo_disable
"""


def test_a_model_that_runs_as_it_stands_needs_no_compiler_and_who_asks_it_meets_the_real_one(tmp_path):
    tiny_checkpoint(tmp_path / "m")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "m")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
