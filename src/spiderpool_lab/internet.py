"""The server on the internet of a lab: HTTP on port 80 and UDP on port 53, both answer with the client's address.

``python -m spiderpool_lab.internet --netns NAME`` serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio

from spiderpool_lab import namespaces
from spiderpool_lab.pod_servers import PodIdentity, Protocol, serving
from spiderpool_lab.signals import stop_event

NAME = "internet"
PORTS: tuple[tuple[Protocol, int], ...] = (("TCP", 80), ("UDP", 53))


async def serve(netns: str) -> None:
    """Serve in a named network namespace until SIGTERM or SIGINT."""
    ended = stop_event()
    async with serving(namespaces.path(netns), PORTS, PodIdentity(NAME, NAME)):
        await ended.wait()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--netns", required=True)
    asyncio.run(serve(parser.parse_args().netns))


if __name__ == "__main__":
    main()
