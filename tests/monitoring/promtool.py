"""Runs Prometheus' own promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from spiderpool_lab import binaries
from tests.monitoring.rendered import groups

STEP = 5
"""Minutes between two values of a series, and two evaluations of the rules."""


def promtool(*arguments: str | Path, text: str = "") -> str:
    """What promtool prints, with its exit status at the end where that is not 0."""
    promtool = next(each.path for each in binaries.provide(binaries.PROMETHEUS) if each.program == "promtool")
    done = subprocess.run([promtool, *arguments], input=text, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr + (f"exit status {done.returncode}" if done.returncode else "")


def rule_file(folder: Path, alert: str = "") -> Path:
    """The chart's rules as a file: all, or those that record and one alert."""
    chosen = [group | {"rules": [rule for rule in group["rules"] if _wanted(rule, alert)]} for group in groups()]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [group for group in chosen if group["rules"]]}))
    return file


def _wanted(rule: dict[str, Any], alert: str) -> bool:
    return not alert or rule.get("alert", alert) == alert


def failures(
    folder: Path,
    series: dict[str, str],
    expected: dict[tuple[str, int], float | None],
    *,
    step: int = STEP,
    alert: str = "",
) -> str:
    """What promtool says where the rules do not make of these series (in its notation) what is expected.

    Expected is, for a query and the number of a step, the one value without labels, or None for no value; ``step`` is
    in minutes. All alerts are evaluated at each step, or ``alert`` alone, which is quicker for weeks.
    """
    tests = [
        {
            "expr": query,
            "eval_time": f"{number * step}m",
            "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
        }
        for (query, number), value in expected.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    case: dict[str, Any] = {"interval": f"{step}m", "input_series": inputs, "promql_expr_test": tests}
    file = folder / "test.yaml"
    rules = rule_file(folder, alert)
    groups = [group["name"] for group in yaml.safe_load(rules.read_text())["groups"]]
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": f"{step}m",
        "group_eval_order": groups,  # otherwise by chance, and alerts read what another group has recorded
        "tests": [case],
    }
    file.write_text(yaml.safe_dump(document, width=10**9))
    output = promtool("test", "rules", file)
    return "" if "SUCCESS" in output and "exit status" not in output else output


def firing(alert: str) -> str:
    """The query for how often an alert fires."""
    return f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
