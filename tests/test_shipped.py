import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config_file import load_config
from pipeline.errors import BadInputError
from pipeline.shipped import shipped_config, shipped_configs

ROOT = Path(__file__).parents[1]


def test_every_config_of_the_checkout_is_shipped():
    assert shipped_configs() == sorted(path.name for path in (ROOT / "configs").iterdir())
    assert shipped_config("demo.yaml").samefile(ROOT / "configs" / "demo.yaml")


def test_a_config_that_is_not_shipped_is_answered_with_those_that_are():
    with pytest.raises(BadInputError, match=r"cameras\.example\.yaml, demo\.yaml, .*, got '\.\./demo\.yaml'"):
        shipped_config("../demo.yaml")


def test_an_installed_package_reads_its_own_configs_and_none_that_lie_beside_it(tmp_path):
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "pipeline" / "_configs")  # as pyproject.toml has the wheel built
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("somebody else's: true\n")
    code = "from pipeline.shipped import shipped_config; print(shipped_config('demo.yaml'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert load_config(Path(done.stdout.strip())) == load_config(ROOT / "configs" / "demo.yaml")
