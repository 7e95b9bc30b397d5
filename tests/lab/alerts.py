"""Alerts of a lab: a real Prometheus reads its daemons, and an operator does what the runbooks say.

The chart's alerts are evaluated as they are, but look back seconds instead of minutes, and do not wait.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from spiderpool.errors import NotReady
from spiderpool_lab import namespaces
from spiderpool_lab.cluster import LabCluster
from tests.monitoring.prometheus import Prometheus, prometheus
from tests.monitoring.rendered import groups
from tests.pages import blocks
from tests.pages.accounts import ROOT
from tests.pages.shell import Shell

PATIENCE = 120
"""Seconds for what takes a few on a machine that has nothing else to do."""
RUNBOOKS = ROOT / "docs" / "runbooks"
AGENT_PORT = 5711
METRICS_OF_AGENTS = {"SPIDERPOOL_ENABLED_METRIC": "true", "SPIDERPOOL_METRIC_HTTP_PORT": str(AGENT_PORT)}
"""Variables with which agents serve their metrics."""
WINDOW = "20s"
"""Instead of the minutes that rates and increases look back: an alert ends soon after what caused it."""
LOGS = re.compile(r"kubectl -n kube-system logs -l app\.kubernetes\.io/component=(\S+)")
ANY_RANGE = re.compile(r"\[[^\]]+\]")
RANGE = re.compile(r"\[(?:5|10|15)m\]|\[1h\]")


@contextmanager
def alerts_of(cluster: LabCluster, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that reads all daemons, with one job for each of them."""
    assert cluster.health_ports, "this object has started the daemons of the lab"
    with ExitStack() as relays:
        nodes = {
            f"agent-{node.name}": relays.enter_context(_relay(cluster, node.name))
            for node in cluster.fabric.topology.nodes
        }
        yield relays.enter_context(prometheus(folder, {**cluster.health_ports, **nodes}, hurried(groups())))


def hurried(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The alerts of groups of rules, with short windows and without waits."""
    return [{"name": group["name"], "rules": [*map(_hurried, group["rules"])]} for group in found]


def _hurried(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: value for key, value in rule.items() if key != "for"},
        "expr": RANGE.sub(f"[{WINDOW}]", rule["expr"]),
    }


@contextmanager
def _relay(cluster: LabCluster, node: str) -> Iterator[int]:
    """The port of this host at which the metrics of a node's agent are: only its own network reaches the node."""
    client = cluster.machines.client(node)
    opener = build_opener(ProxyHandler({}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            read = partial(_read, opener, f"http://{client.address}:{AGENT_PORT}{self.path}")
            try:
                body = namespaces.call_in(client.netns, read)
            except OSError as error:
                self.send_error(502, str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing: there is a request each second."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _read(opener: Any, url: str) -> bytes:
    with opener.open(url, timeout=5) as reply:
        body: bytes = reply.read()
        return body


class Operator:
    """Waits for alerts, and then does what their runbooks say."""

    def __init__(self, cluster: LabCluster, server: Prometheus, at: Shell) -> None:
        self._cluster = cluster
        self._server = server
        self._shell = at

    def is_paged(self, alert: str, *seen: str, **words: str) -> None:
        """The alert fires, and its runbook's commands come to print all of ``seen``; ``words`` stand for the page's."""
        self._cluster.wait_for(f"{alert} fires", lambda: alert in self._server.firing(), PATIENCE)
        commands = [each for each in blocks.commands(RUNBOOKS / f"{alert}.md") if each.section == "What to look at"]
        printed: list[str] = []

        def shows_the_cause() -> bool:
            printed[:] = [self._printed(each.text, words) for each in commands]
            return all(any(word in text for text in printed) for word in seen)

        try:
            self._cluster.wait_for(f"the runbook of {alert} shows {seen}", shows_the_cause, PATIENCE)
        except NotReady as error:
            raise AssertionError(f"{error}, but {printed}") from error

    def has_quiet(self) -> None:
        """No alert fires any more."""
        try:
            self._cluster.wait_for("no alert fires", lambda: not self._server.firing(), PATIENCE)
        except NotReady as error:
            raise AssertionError(f"{error}, but {self._server.firing()}") from error

    def _printed(self, command: str, words: Mapping[str, str]) -> str:
        for word, value in words.items():
            command = command.replace(word, value)
        if command.startswith("curl "):  # what a node gets
            outcome = self._cluster.machines.client("worker").exec(["sh", "-c", command])
            return f"{outcome.stdout} exit status {outcome.rc}"
        if daemon := LOGS.match(command):  # which is a process here, and no pod
            return self._cluster.processes.log(daemon[1]).read_text()
        done = self._shell.run(command)
        assert done.returncode in (0, 1), f"{command}: {done.stdout}"  # 1: `doctor` has found something
        return " ".join(done.stdout.split())
