"""`evaluate` as a person sees it."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console, Group

from pipeline.camera_settings import AlertSettings
from pipeline.console.footage import passed_over_count
from pipeline.console.progress import Bar, progress_bars
from pipeline.console.tables import metrics_table
from pipeline.datasets.base import Dataset
from pipeline.evaluation.protocols import Evaluation, evaluate
from pipeline.evaluation.report import write_report
from pipeline.evaluation.tables import (
    ALARM_COLUMNS,
    RANGE_COLUMNS,
    TABLE_COLUMNS,
    alarm_rows,
    range_rows,
    table_rows,
)
from pipeline.files import naming, require_place, require_writable


def evaluation_tables(evaluation: Evaluation, title: str) -> Group:
    """All metrics beside their floors, and what was alarmed, overall and per scene."""
    return Group(
        metrics_table([TABLE_COLUMNS, *table_rows(evaluation)], title),
        metrics_table([ALARM_COLUMNS, *alarm_rows(evaluation)], ""),
        metrics_table([RANGE_COLUMNS, *range_rows(evaluation)], ""),
    )


def evaluate_scores(
    scores: Path,
    dataset: Dataset,
    alerts: AlertSettings,
    json_file: Path | None,
    report: Path | None,
    *,
    out: Console,
    err: Console,
) -> Evaluation:
    """Evaluate written scores; print the tables, write JSON and report where asked.

    Args:
        scores: what ``replay`` or ``stream`` wrote.
        dataset: the labelled data set.
        alerts: when the cameras raised an alarm.
        json_file: where the numbers go, or None.
        report: where an HTML report goes, or None.
        out: for results.
        err: for progress.

    Raises:
        BadInputError: nothing can be written where JSON or report are to be.
        ScoresError: the scores are damaged or do not fit the data set.
    """
    if json_file is not None:
        require_place(json_file)
    if report is not None:
        require_place(report)
        require_writable(report.parent)
    with progress_bars(err) as progress:
        evaluation = evaluate(scores, dataset, alerts, progress=Bar(progress, "evaluating"))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        with naming(json_file):
            json_file.write_text(json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    out.print(evaluation_tables(evaluation, f"{dataset.name}: {scores}"))
    if evaluation.overall.pixel_note:
        out.print(evaluation.overall.pixel_note, markup=False, highlight=False)
    if dataset.passed_over:
        out.print(passed_over_count(dataset.passed_over), markup=False, highlight=False)
    if report is not None:
        out.print(f"report: {write_report(report, evaluation, scores, dataset)}", markup=False, highlight=False)
    return evaluation
