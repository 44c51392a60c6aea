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
    files = [path for path in (ROOT / "configs").rglob("*") if path.is_file()]
    assert shipped_configs() == sorted(path.relative_to(ROOT / "configs").as_posix() for path in files)
    assert "encoders/convnext_tiny.yaml" in shipped_configs()
    assert shipped_config("demo.yaml").samefile(ROOT / "configs" / "demo.yaml")


def test_a_config_that_is_not_shipped_is_answered_with_those_that_are():
    with pytest.raises(BadInputError, match=r"cameras\.example\.yaml, .*, demo\.yaml, .*, got '\.\./demo\.yaml'"):
        shipped_config("../demo.yaml")


def test_an_installed_package_reads_its_own_configs_and_none_that_lie_beside_it(tmp_path):
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "pipeline" / "_configs")  # as pyproject.toml has the wheel built
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("somebody else's: true\n")
    code = "from pipeline.shipped import shipped_config; print(shipped_config('demo.yaml'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert load_config(Path(done.stdout.strip())) == load_config(ROOT / "configs" / "demo.yaml")


def test_whoever_took_the_demos_config_away_misses_it_in_the_demo_alone_and_is_told_in_one_line(tmp_path):
    shutil.copy(ROOT / "run_cluster.py", tmp_path)
    for folder in ("pipeline", "actors", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "demo.yaml"))

    def command(*arguments):
        program = [sys.executable, tmp_path / "run_cluster.py", *arguments]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert command("--version").returncode == 0
    refused = command("demo", "--out", tmp_path / "demo")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: expected one of cameras.example.yaml, ")
    assert line.endswith(", got 'demo.yaml'")
