"""The walls of the house: who may import whom, and what a torch-free process must not pay for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "pipeline").rglob("*.py")) + sorted((ROOT / "actors").rglob("*.py"))
HOMES = {
    "av": ("pipeline/video/", "pipeline/datasets/synthetic.py"),
    "timm": ("pipeline/models/",),
    "FrEIA": ("pipeline/models/", "pipeline/baselines/"),
    "redis": ("pipeline/sinks/",),
    "pyarrow": ("pipeline/sinks/",),
    "httpx": ("pipeline/sinks/",),
    "ray": ("actors/",),
}
TORCH_FREE = (
    "pipeline.types",
    "pipeline.config",
    "pipeline.methods",
    "pipeline.model_settings",
    "pipeline.errors",
    "pipeline.redaction",
    "pipeline.video.source",
    "pipeline.video.reader",
    "pipeline.video.scene",
    "pipeline.training.views",
    "pipeline.runtime.roster",
    "pipeline.runtime.buffer",
    "pipeline.runtime.plan",
    "pipeline.models.card",
    "pipeline.console.check",
    "pipeline.scoring.camera",
    "pipeline.sinks.redis_stream",
    "pipeline.sinks.run_store",
    "pipeline.sinks.parquet",
    "pipeline.sinks.to_webhook",
    "pipeline.sinks.parquet_reader",
    "pipeline.evaluation.metrics",
    "pipeline.evaluation.benchmark",
    "actors.camera",
    "actors.cluster",
    "actors.detector",
    "actors.scorer",
    "actors.supervisor",
)
# May import, inside the library: every room names the rooms below it.
BELOW = {
    "models": {"models"},
    "video": {"video", "runtime"},
    "runtime": {"runtime", "sinks"},
    "datasets": {"datasets", "video"},
    "baselines": {"baselines", "models"},
    "inference": {"inference", "baselines", "models"},
    "scoring": {"scoring", "models", "runtime"},
    "sinks": {"sinks"},
    "checks": {"checks", "models", "video", "sinks"},
    "training": {"training", "inference", "baselines", "models", "datasets", "video"},
    "evaluation": {"evaluation", "inference", "baselines", "datasets", "models", "video", "sinks", "scoring"},
}


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_its_room_may(path):
    place = path.relative_to(ROOT).as_posix()
    for name in _imported(path):
        package = name.split(".")[0]
        assert not (place.startswith("pipeline/") and package in {"ray", "actors"}), f"{place} imports {name}"
        if package in HOMES:
            assert place.startswith(HOMES[package]), f"{place} imports {name}"
        parts = place.split("/")
        if parts[0] == "pipeline" and parts[1] in BELOW and name.startswith("pipeline.") and name.count(".") > 1:
            assert name.split(".")[1] in BELOW[parts[1]], f"{place} imports {name}"


def test_torch_free_modules_do_not_import_torch():
    code = f"import sys, {', '.join(TORCH_FREE)}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "torch was imported"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_package_file_holds_a_docstring_and_nothing_else(path):
    if path.name == "__init__.py":
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1
        assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_unpickles(path):
    text = path.read_text(encoding="utf-8")
    assert not {name.split(".")[0] for name in _imported(path)} & {"pickle", "dill", "joblib", "cloudpickle"}
    assert "torch.load(" not in text
    assert "allow_pickle=True" not in text
