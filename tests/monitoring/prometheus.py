"""Runs a real Prometheus that reads daemons and evaluates the chart's rules."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from spiderpool_lab import binaries
from spiderpool_lab.ports import free_ports
from tests.monitoring.rendered import groups
from tests.support.eventually import wait_until

PACE = "1s"
"""Between two readings, and between two evaluations of the rules."""


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str
    log: Path

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        return list(self._get("query", query=expression)["result"])

    def names(self) -> set[str]:
        """The names of all series."""
        return {*self._get("label/__name__/values")}

    def failing_rules(self) -> list[str]:
        """Rules that could not be evaluated, with the error."""
        found = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule.get('lastError')}" for rule in found if rule["health"] != "ok"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {each["labels"]["alertname"] for each in self._get("alerts")["alerts"] if each["state"] == "firing"}

    def _get(self, path: str, **parameters: str) -> Any:
        with build_opener(ProxyHandler({})).open(
            f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10
        ) as reply:
            return json.load(reply)["data"]

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self.query("vector(1)") != []
        except OSError:
            return False


def fill(folder: Path, lines: Sequence[str]) -> None:
    """Put a history, in the format OpenMetrics, where a Prometheus that runs in the folder will find it."""
    history = folder / "history"
    history.write_text("\n".join([*lines, "# EOF\n"]))
    promtool = next(each.path for each in binaries.provide(binaries.PROMETHEUS) if each.program == "promtool")
    command: list[str | Path] = [promtool, "tsdb", "create-blocks-from", "openmetrics", history, folder / "data"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


@contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, int], rules: Sequence[dict[str, Any]] | None = None
) -> Iterator[Prometheus]:
    """One that reads each job at a port of this host, until the context ends.

    ``rules`` are groups of rules; without them it has the chart's.
    """
    jobs = [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": "kube-system"}}],
        }
        for job, port in targets.items()
    ]
    timing = {"scrape_interval": PACE, "evaluation_interval": PACE}
    (folder / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{**group, "interval": PACE} for group in (groups() if rules is None else rules)]})
    )
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"global": timing, "rule_files": ["rules.yaml"], "scrape_configs": jobs}))
    (port,) = free_ports(1)
    program = next(each.path for each in binaries.provide(binaries.PROMETHEUS) if each.program == "prometheus")
    options = [f"--storage.tsdb.path={folder / 'data'}", "--storage.tsdb.retention.time=60d", f"--config.file={config}"]
    log = folder / "prometheus.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [program, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=out, stderr=out
        ) as process,
    ):
        made = Prometheus(f"http://127.0.0.1:{port}", log)
        try:
            wait_until(made.is_ready, f"Prometheus answers, see {log}", timeout=60)
            yield made
        finally:
            process.terminate()
            process.wait(20)
