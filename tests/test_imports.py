"""Import rules: which package may import which, and what a torch-free process must not pay for."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
MODULES = sorted((ROOT / "pipeline").rglob("*.py")) + sorted((ROOT / "actors").rglob("*.py"))
HOMES = {
    "fsspec": ("pipeline/remote_files.py",),
    "av": ("pipeline/video/", "pipeline/evidence/", "pipeline/datasets/synthetic.py"),
    "timm": ("pipeline/models/",),
    "FrEIA": ("pipeline/models/", "pipeline/baselines/"),
    "redis": ("pipeline/sinks/",),
    "pyarrow": ("pipeline/sinks/",),
    "httpx": ("pipeline/sinks/", "pipeline/video/http_"),
    "prometheus_client": ("pipeline/monitoring/",),
    "paho": ("pipeline/sinks/",),
    "apprise": ("pipeline/sinks/",),
    "ray": ("actors/",),
}
TORCH_FREE = (
    "pipeline.types",
    "pipeline.alerts",
    "pipeline.normal_footage",
    "pipeline.camera_settings",
    "pipeline.zoning",
    "pipeline.config",
    "pipeline.methods",
    "pipeline.model_settings",
    "pipeline.errors",
    "pipeline.redaction",
    "pipeline.video.source",
    "pipeline.video.reader",
    "pipeline.video.tamper",
    "pipeline.training.scene_references",
    "pipeline.runtime.camera_registry",
    "pipeline.runtime.buffer",
    "pipeline.runtime.desired_state",
    "pipeline.runtime.plan",
    "pipeline.models.card",
    "pipeline.models.fetching",
    "pipeline.models.normal_store",
    "pipeline.console.check",
    "pipeline.console.calibrating",
    "pipeline.scoring.camera",
    "pipeline.evidence.packet_ring",
    "pipeline.sinks.redis_stream",
    "pipeline.sinks.run_store",
    "pipeline.sinks.parquet",
    "pipeline.sinks.to_webhook",
    "pipeline.sinks.to_mqtt",
    "pipeline.sinks.to_apprise",
    "pipeline.sinks.parquet_reader",
    "pipeline.evaluation.metrics",
    "pipeline.evaluation.benchmark",
    "actors.camera",
    "actors.cluster",
    "actors.detector",
    "actors.fleet",
    "actors.model_server",
    "actors.scorer",
    "actors.supervisor",
)
# May import, inside the library: every package names the packages below it.
BELOW = {
    "models": {"models"},
    "video": {"video", "runtime"},
    "runtime": {"runtime", "models", "sinks"},
    "datasets": {"datasets", "video"},
    "baselines": {"baselines", "models"},
    "inference": {"inference", "baselines", "models", "runtime"},
    "scoring": {"scoring", "models", "runtime"},
    "sinks": {"sinks"},
    "evidence": {"evidence", "video", "runtime"},
    "checks": {"checks", "models", "video", "sinks", "monitoring"},
    "monitoring": {"monitoring", "models", "runtime", "sinks"},
    "training": {"training", "inference", "baselines", "models", "datasets", "video"},
    "evaluation": {"evaluation", "inference", "baselines", "datasets", "models", "video", "sinks", "scoring"},
    "calibrate": {"calibrate", "evaluation", "inference", "datasets", "models", "video", "sinks", "scoring"},
    "console": {"console", "calibrate", "checks", "datasets", "evaluation", "models", "sinks", "training", "video"},
}
# Which of the actors' modules may import which others; those without a row import none.
ACTORS_BELOW = {
    "result_sender": {"actor_client"},
    "camera": {"actor_client"},
    "evidence_courier": {"actor_monitor", "deliveries"},
    "evidence_keeper": {"actor_client"},
    "model_server": {"actor_client"},
    "detector": {"result_sender", "model_server", "actor_client"},
    "served_models": {"actor_monitor", "cluster", "model_server"},
    "run_models": {"actor_set", "fleet"},
    "local_ray": {"ray_settings"},
    "joined_ray": {"ray_head", "ray_settings"},
    "cluster": {"joined_ray", "local_ray"},
    "scorer": {"plans", "actor_client", "evidence_keeper"},
    "fleet": {
        "actor_monitor",
        "camera",
        "cluster",
        "cluster_nodes",
        "detector",
        "local_ray",
        "scorer",
        "served_models",
    },
    "scorers": {"actor_monitor", "deliveries"},
    "actor_set": {"actor_monitor", "fleet"},
    "deliveries": {"actor_monitor"},
    "pool_keeper": {"actor_set", "fleet"},
    "supervisor": {
        "actor_client",
        "actor_set",
        "cluster_nodes",
        "deliveries",
        "evidence_courier",
        "fleet",
        "pool_keeper",
        "run_models",
        "scorers",
        "supervision_file",
    },
    "model_control": {"run_models"},
    "control": {"model_control", "run_models"},
    "run": {"cluster", "control", "fleet", "supervision_file", "supervisor"},
    "requests": {"control"},
    "control_socket": {"control", "requests"},
    "commands": {"control", "control_socket", "plans", "run", "run_models"},
    "service_requests": {"control", "joined_ray", "ray_settings", "requests", "service_directory"},
    "service": {
        "actor_client",
        "control",
        "fleet",
        "run",
        "run_models",
        "service_directory",
        "service_requests",
        "supervision_file",
    },
    "addressed_run": {"control_socket", "service_requests"},
    "run_commands": {"addressed_run"},
    "alert_commands": {"addressed_run"},
    "detach": {"cluster", "plans", "served_models", "service", "service_directory"},
    "training_worker": {"training_store"},
    "training": {"cluster", "ray_settings", "training_store", "training_worker"},
    "demo": {"commands"},
}


def _imported(path: Path) -> set[str]:
    return _imports_of(path.read_text(encoding="utf-8"))


def _imports_of(source: str) -> set[str]:
    """Every module that it imports, wherever in it; what comes out of a package is named with it, module or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


class _WithoutTyping(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """What is imported for types alone is not imported when it runs."""
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"} else node


def _circle(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, if any do; given each one's name and source."""
    graph = {
        name: _imports_of(ast.unparse(_WithoutTyping().visit(ast.parse(source)))) & sources.keys() - {name}
        for name, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_its_package_may(path):
    place = path.relative_to(ROOT).as_posix()
    for name in _imported(path):
        package = name.split(".")[0]
        assert not (place.startswith("pipeline/") and package in {"ray", "actors"}), f"{place} imports {name}"
        if package in HOMES:
            assert place.startswith(HOMES[package]), f"{place} imports {name}"
        parts = place.split("/")
        other = name.removeprefix("pipeline.").split(".")[0]
        if parts[0] == "pipeline" and parts[1] in PACKAGES and name.startswith("pipeline.") and other in PACKAGES:
            assert other in BELOW[parts[1]], f"{place} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "actors").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_of_the_actors_imports_only_those_below_it(path):
    known = {other.stem for other in path.parent.glob("*.py")} - {"__init__"}
    of_theirs = {name.split(".")[1] for name in _imported(path) if name.startswith("actors.")} & known
    assert of_theirs <= ACTORS_BELOW.get(path.stem, set())


def test_no_modules_import_each_other_in_a_circle():
    assert _circle({_module_name(path): path.read_text(encoding="utf-8") for path in MODULES}) == []


def test_a_circle_is_found_even_where_an_import_hides_in_a_function_and_one_for_types_alone_is_none():
    sources = {
        "house.roof": "def build():\n    from house import wall\n    return wall",
        "house.wall": "if True:\n    import house.door",
        "house.door": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.roof import build",
    }
    assert _circle(sources) == []
    circle = _circle({**sources, "house.door": "from house.roof import build"})
    assert set(circle) == {"house.roof", "house.wall", "house.door"}


def test_actors_are_made_in_one_place():
    makers = [path for path in MODULES if "ray.remote(" in path.read_text(encoding="utf-8")]
    assert [path.relative_to(ROOT).as_posix() for path in makers] == ["actors/cluster.py"]


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
