"""`check` as a person or a script sees it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.checks.cameras import check_cameras
from pipeline.checks.finding import Finding, FindingState
from pipeline.checks.machine import check_metrics, check_output, check_ports, check_redis, check_sinks, check_temporary
from pipeline.checks.model import check_model
from pipeline.checks.zones import check_zones
from pipeline.config import Config

_STYLES: dict[FindingState, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def check_run(settings: Config, config_file: Path, model_place: str | None, *, as_json: bool, out: Console) -> bool:
    """Look at everything that a run of this config needs, and print what was found.

    Args:
        settings: of the run.
        config_file: where they were read from.
        model_place: folder or address of the model; None where none is named.
        as_json: one JSON object a line instead of a table.
        out: for the findings.

    Returns:
        Whether nothing failed; warnings are no failure.
    """
    live = sum(camera.is_live for camera in settings.cameras)
    findings = [
        Finding("config", "ok", f"{config_file}: {len(settings.cameras)} cameras, {live} of them live"),
        *check_model(settings, model_place),
        check_redis(settings),
        *check_sinks(settings),
        *check_output(settings),
        check_temporary(),
        check_ports(),
        *check_metrics(settings),
        *check_cameras(settings.cameras),
        *check_zones(settings.cameras, time.time()),
    ]
    if as_json:
        for finding in findings:
            out.file.write(json.dumps(finding.as_json()) + "\n")
    else:
        out.print(findings_table(findings))
    return not any(finding.state == "failed" for finding in findings)


def findings_table(findings: list[Finding]) -> Table:
    """One row per finding."""
    table = Table(title="before a run", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.what), Text(finding.state, _STYLES[finding.state]), Text(finding.detail))
    return table
