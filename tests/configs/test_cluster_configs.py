"""What stands in ``configs/cluster``: taken by Ray and KubeRay as it is, and the same wherever it is about the same."""

import copy
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.version import VERSION
from tests.configs.kuberay_fields import faults

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "cluster"
OF_RAY_UP = ("onprem", "aws", "gcp")
OF_KUBERAY = ("raycluster", "rayjob")
SETTING = re.compile(r"\b(RAY_\w+)=(\S+)")
VARIABLES_OF_KUBERAY = {"RAY_JOB_STOP_WAIT_TIME_S"}


def ray_up(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def documents(name):
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()))


def kuberay(name):
    """The one document of ours that is KubeRay's, and the cluster in it."""
    (resource,) = [document for document in documents(name) if document["apiVersion"] == "ray.io/v1"]
    return resource, resource["spec"].get("rayClusterSpec", resource["spec"])


def groups(cluster):
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def container(group):
    (only,) = group["template"]["spec"]["containers"]
    return only


def start(commands):
    (command,) = [command for command in commands if "ray start" in command]
    return command


@pytest.mark.parametrize("name", OF_RAY_UP)
def test_ray_itself_takes_each_cluster_as_it_stands(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(ray_up(name)))


def test_ray_would_refuse_a_key_that_it_does_not_know():
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config({**ray_up("aws"), "setup_comands": []}))


def test_what_the_launchers_share_is_the_same_in_all_of_them():
    first, *others = [ray_up(name) for name in OF_RAY_UP]
    for other in others:
        for key in ("cluster_name", "file_mounts", "setup_commands", "head_start_ray_commands"):
            assert other[key] == first[key], key
        assert other["worker_start_ray_commands"] == first["worker_start_ray_commands"]


@pytest.mark.parametrize("name", OF_RAY_UP)
def test_every_node_asks_for_the_token_that_is_shipped_and_shows_its_dashboard_to_nobody_else(name):
    config = ray_up(name)
    head, worker = start(config["head_start_ray_commands"]), start(config["worker_start_ray_commands"])
    for command in (head, worker):
        assert command.index("RAY_AUTH_MODE=token ") < command.index("ray start")
        assert "RAY_USAGE_STATS_ENABLED=0 " in command  # `ray up` exports 1 in front of it
        assert command.startswith("ulimit -n 65536;")
    assert "RAY_AUTH_MODE=token" in next(command for command in config["setup_commands"] if "profile <<" in command)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1 " in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


@pytest.mark.parametrize("name", OF_RAY_UP)
def test_each_port_is_chosen_and_named_for_the_firewall(name):
    told = (FOLDER / f"{name}.yaml").read_text()
    (line,) = [line for line in told.splitlines() if line.startswith("# Only the nodes may reach these ports")]
    numbers = line.split("): ")[1].rstrip(".").split(", ")
    ranges = [range(int(part.split(" to ")[0]), int(part.split(" to ")[-1]) + 1) for part in numbers]
    config = ray_up(name)
    head, worker = start(config["head_start_ray_commands"]), start(config["worker_start_ray_commands"])
    for command in (head, worker):
        ports = {option: int(port) for option, port in re.findall(r"--([\w-]*port)=(\d+)", command)}
        assert {"node-manager-port", "object-manager-port", "runtime-env-agent-port", "metrics-export-port"} < set(
            ports
        )
        ports.pop("dashboard-port", None)  # on loopback
        assert [port for port in ports.values() if not any(port in known for known in ranges)] == []


def test_a_head_in_a_cloud_has_no_gpu_and_runs_no_actor_that_wants_a_cpu():
    for name in ("aws", "gcp"):
        types = ray_up(name)["available_node_types"]
        assert types["head"]["resources"] == {"CPU": 0}
        assert types["decode"]["labels"] == {"cflow/role": "decode"}
        assert types["detect"]["labels"] == {"cflow/role": "detect"}
        assert types["detect"]["resources"]["GPU"] == 1
        assert all(0 < types[kind]["min_workers"] < types[kind]["max_workers"] for kind in ("decode", "detect"))
        assert "SPOT" not in str(types["head"]).upper()
        assert all("SPOT" in str(types[kind]).upper() for kind in ("decode", "detect"))
    for name in OF_RAY_UP:
        assert "--num-cpus=0 --labels=cflow/role=state " in start(ray_up(name)["head_start_ray_commands"])


@pytest.mark.parametrize("name", OF_KUBERAY)
def test_kuberay_documents_every_field_that_is_set(name):
    """With a release's own definitions (a folder with ray.io_rayclusters.yaml and ray.io_rayjobs.yaml) by them, too."""
    resource, _ = kuberay(name)
    assert faults(resource, resource["kind"]) == []
    if folder := os.environ.get("CFLOW_KUBERAY_CRDS"):
        definition = yaml.safe_load((Path(folder) / f"ray.io_{resource['kind'].lower()}s.yaml").read_text())
        (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
        jsonschema.validate(resource, version["schema"]["openAPIV3Schema"])


def test_a_field_that_kuberay_does_not_document_is_found():
    resource, cluster = copy.deepcopy(kuberay("raycluster"))
    cluster["workerGroupSpecs"][0]["replicas"] = "1"
    cluster["authOption"] = cluster.pop("authOptions")
    del resource["spec"]["headGroupSpec"]["template"]
    assert (
        faults(resource, "RayCluster")
        == [
            ".spec.headGroupSpec: expected template, found none",
            ".spec.workerGroupSpecs[0].replicas: expected int, got '1'",
            ".spec.authOption: no such field of a RayClusterSpec",
        ]
        or len(faults(resource, "RayCluster")) == 3
    )


def test_the_job_gets_the_same_cluster_as_the_one_that_stays_but_for_its_dashboard():
    (_, stays), (_, of_job) = copy.deepcopy(kuberay("raycluster")), copy.deepcopy(kuberay("rayjob"))
    assert stays["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "127.0.0.1"
    assert of_job["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "0.0.0.0"
    assert of_job == stays


@pytest.mark.parametrize("name", OF_KUBERAY)
def test_kuberay_runs_the_image_with_the_ray_of_the_lock(name):
    _, cluster = kuberay(name)
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "requirements.lock").read_text()
    assert {container(group)["image"] for group in groups(cluster)} == {f"cflow-stream:{VERSION}"}
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"].startswith("rediss://")


@pytest.mark.parametrize("name", OF_KUBERAY)
def test_every_pod_has_its_shared_memory_and_nothing_mounted_that_is_not_there(name):
    _, cluster = kuberay(name)
    for group in groups(cluster):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert {mount["name"] for mount in container(group)["volumeMounts"]} == set(volumes)
        assert pod["securityContext"]["runAsNonRoot"]
    claims = {d["metadata"]["name"] for d in documents(name) if d["kind"] == "PersistentVolumeClaim"}
    assert claims == {"cflow-state"}
    (gpu,) = [group for group in cluster["workerGroupSpecs"] if group["labels"] == {"cflow/role": "detect"}]
    assert "nvidia.com/gpu" in {toleration["key"] for toleration in gpu["template"]["spec"]["tolerations"]}


@pytest.mark.parametrize("name", OF_KUBERAY)
def test_rays_settings_are_the_same_on_machines_and_in_pods(name):
    on_machines = dict(SETTING.findall(start(ray_up("onprem")["head_start_ray_commands"])))
    of_launcher = {"RAY_AUTH_MODE", "RAY_external_storage_namespace", "RAY_REDIS_ADDRESS"}  # KubeRay sets them itself
    _, cluster = kuberay(name)
    for group in groups(cluster):
        variables = {entry["name"]: entry.get("value") for entry in container(group)["env"]}
        in_pods = {key: value for key, value in variables.items() if key.startswith("RAY_")}
        assert {key: value for key, value in in_pods.items() if key not in VARIABLES_OF_KUBERAY} == {
            key: value for key, value in on_machines.items() if key not in of_launcher
        }


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_secret_and_no_registry_stands_in_them(path):
    text = path.read_text()
    assert re.findall(r"https?://", text) == []
    assert "index-url" not in text
    assert not re.search(r"password[\"']?: *[\"']?[A-Za-z0-9]", text)
