"""The cluster that the tests in this folder stand on."""

import json
import subprocess
import sys

import pytest

from tests.cluster.nodes import ray_nodes

pytestmark = pytest.mark.ray

LOOK = """
import json, sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)
wanted, give_up_at = int(sys.argv[2]), time.monotonic() + 60
while len(alive := [node for node in ray.nodes() if node["Alive"]]) != wanted and time.monotonic() < give_up_at:
    time.sleep(0.2)
print(json.dumps(sorted(node["Labels"].get("cflow/role", "") for node in alive)))
"""


def roles(nodes, count):
    command = [sys.executable, "-c", LOOK, nodes.address, str(count)]
    done = subprocess.run(command, check=False, env=nodes.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nodes_with_roles_come_and_one_that_is_killed_is_gone(tmp_path):
    with ray_nodes(tmp_path) as nodes:
        nodes.start_head()
        nodes.add("a", labels="cflow/role=decode")
        nodes.add("b", labels="cflow/role=detect")
        assert roles(nodes, 3) == ["", "decode", "detect"]
        nodes.kill("a")
        assert roles(nodes, 2) == ["", "detect"]
