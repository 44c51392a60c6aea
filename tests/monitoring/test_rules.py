"""Each rule fires when it should and is silent otherwise, as Prometheus's own tool sees it."""

import re
import subprocess

import pytest

from pipeline.monitoring.collector import RunCollector
from tests.monitoring.made import watch
from tests.monitoring.shipped import FOLDER, RULE_TESTS, RULES, SELECTOR, TARGETS, program


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yaml"), ("check", "config", "prometheus.yaml"), ("test", "rules", "rules.test.yaml")],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments):
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent():
    names = [rule["alert"] for rule in RULES]
    checks = [check for test in RULE_TESTS for check in test["alert_rule_test"]]
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == set(names)
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == set(names)
    assert len(names) == len(set(names))


def test_each_alert_is_explained():
    document = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text()
    explained = set(re.findall(r"^\| `(Cflow\w+)` \|", document, re.MULTILINE))
    assert explained == {rule["alert"] for rule in RULES}
    assert all(rule["labels"]["severity"] in {"critical", "warning"} for rule in RULES)


def test_nothing_is_asked_for_that_no_run_has():
    known = {sample.name for family in RunCollector(watch().look).collect() for sample in family.samples}
    expressions = [rule["expr"] for rule in RULES] + [expression for _, expression in TARGETS]
    asked = {found.split("{")[0] for expression in expressions for found in SELECTOR.findall(expression)}
    assert asked - known == {"up", "process_resident_memory_bytes"}


def test_each_metric_of_a_run_is_explained():
    document = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text()
    named = {sample.name for family in RunCollector(watch().look).collect() for sample in family.samples}
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert set(re.findall(r"`(cflow_\w+)(?:\{[^`]*)?`", document.split("## Alerts")[0])) == base
