"""A process that exports all of our metrics, as a daemon does, each with one series for its labels.

``python -m tests.monitoring.exporter PORT`` ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from typing import Any

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from spiderpool import daemon, telemetry
from spiderpool.event_loop import watched
from spiderpool.telemetry import ComputedGauge, Values


def known_value(gauge: ComputedGauge) -> Values:
    """One series of a gauge."""
    return {tuple(f"some-{label}" for label in gauge.labels): 10.0}


def set_once(metric: Any) -> None:
    """Give a metric a first series, and a value."""
    labels = metric._labelnames
    series = metric.labels(*(f"some-{label}" for label in labels)) if labels and not metric._labelvalues else metric
    match series:
        case Counter():
            series.inc()
        case Gauge():
            series.set(10)
        case Histogram():
            series.observe(0.1)


async def main(port: int) -> None:
    metrics = list(vars(telemetry).values())
    application = web.Application()
    application.router.add_get("/metrics", daemon.MetricsPage().answer)
    with ExitStack() as stack:
        stack.enter_context(watched(asyncio.get_running_loop()))
        for gauge in (each for each in metrics if isinstance(each, ComputedGauge)):
            stack.enter_context(gauge.computed_by(lambda gauge=gauge: known_value(gauge)))  # type: ignore[misc]
        async with daemon.listening(application, "127.0.0.1", port):
            ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
            while not ended.done():  # counters grow, as of a daemon that works
                for metric in (each for each in metrics if isinstance(each, MetricWrapperBase)):
                    set_once(metric)
                await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
