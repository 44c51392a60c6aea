"""The image and what runs beside it on a single host, as far as that is known without a container engine."""

import re
import shlex
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import yaml

from pipeline.version import VERSION

ROOT = Path(__file__).parents[2]
# Of the Compose Specification's service those keys that we use, and what each has to be.
OF_A_SERVICE = {
    "image": str, "build": str, "restart": str, "command": list, "environment": dict, "env_file": list, "volumes": list,
    "configs": list, "ports": list, "healthcheck": dict, "depends_on": dict, "shm_size": str, "stop_grace_period": str,
    "ulimits": dict, "security_opt": list, "cap_drop": list, "user": str,
}  # fmt: skip


@pytest.fixture(scope="module")
def image_script():
    """``.ci/image``, which does the Dockerfile's steps where no container engine runs."""
    loader = SourceFileLoader("ci_image", str(ROOT / ".ci" / "image"))
    module = module_from_spec(spec_from_loader("ci_image", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def steps(image_script):
    return image_script.instructions((ROOT / "Dockerfile").read_text())


@pytest.fixture
def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def arguments(steps, name):
    return [given for instruction, given in steps if instruction == name]


def test_the_image_is_made_of_the_lock_and_of_files_that_are_there_and_reach_the_builder(steps):
    sources = [word for given in arguments(steps, "COPY") for word in shlex.split(given)[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) == let_through
    installing = [given for given in arguments(steps, "RUN") if "uv pip install" in given]
    assert all("requirements.lock" in given for given in installing)
    assert len(installing) == 2


def test_signals_reach_the_command_which_is_an_ordinary_users(steps):
    assert arguments(steps, "ENTRYPOINT") == ['["tini", "--", "cflow-stream"]']  # no shell between
    (user,) = arguments(steps, "USER")
    assert int(user) > 0
    after = [instruction for instruction, _ in steps[[name for name, _ in steps].index("USER") :]]
    assert "RUN" not in after
    (health,) = arguments(steps, "HEALTHCHECK")
    assert "/health" in health


def test_a_step_that_the_script_cannot_do_is_named(image_script, tmp_path):
    with pytest.raises(SystemExit, match="expected an instruction that is known here, got SHELL"):
        image_script.Image(tmp_path).do("SHELL", '["bash"]', already=False)


def test_lines_that_go_on_are_one_step_and_comments_none(image_script):
    text = "# a\nFROM debian:bookworm-slim\nRUN a \\\n    # why\n    && b\n"
    assert image_script.instructions(text) == [("FROM", "debian:bookworm-slim"), ("RUN", "a      && b")]


def test_each_service_of_the_host_says_only_what_compose_knows(compose):
    assert set(compose) <= {"name", "services", "configs", "volumes"}
    for service in compose["services"].values():
        assert {key: type(value) for key, value in service.items()} == {key: OF_A_SERVICE[key] for key in service}
        named = [volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith("./")]
        assert set(named) <= set(compose["volumes"])
        lent = [volume.split(":")[0] for volume in service.get("volumes", []) if volume.startswith("./")]
        assert [path for path in lent if path != "./site" and not (ROOT / path).is_file()] == []
        assert {given["source"] for given in service.get("configs", [])} <= set(compose["configs"])
    for given in compose["configs"].values():
        assert isinstance(yaml.safe_load(given["content"]), dict)


def test_on_a_single_host_nothing_listens_beyond_it_and_no_password_is_an_argument(compose):
    services = compose["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in services.values():
        assert "${" not in " ".join(service.get("command", []))  # filled in by Compose, and seen by `ps`
    assert "requirepass" in services["redis"]["command"][-1]
    assert services["stream"]["image"] == f"cflow-stream:{VERSION}"
    (scraped,) = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"]
    port = services["stream"]["environment"]["CFLOW_METRICS_PORT"]
    assert scraped["static_configs"][0]["targets"] == [f"stream:{port}"]


def test_documents_name_the_image_as_it_is_called():
    for path in (ROOT / "Dockerfile", ROOT / "docs" / "cluster.md", ROOT / "compose.yaml"):
        assert set(re.findall(r"cflow-stream:(\d[\w.]*)", path.read_text())) == {VERSION}, path
