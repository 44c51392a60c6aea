"""What comes with the program for Prometheus and Grafana."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "configs" / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
RULE_TESTS = yaml.safe_load((FOLDER / "rules.test.yaml").read_text())["tests"]
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
SELECTOR = re.compile(r"\b(?:cflow|process)_\w+(?:\{[^}]*\})?|\bup\{[^}]*\}")
"""What an expression reads: names of metrics, with the labels that they are wanted with."""


def program(name: str) -> str:
    """Where a program of the package ``prometheus`` is; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"expected {name} of Debian's package `prometheus` on PATH, found none")
    return found
