"""The option that names a lab, and the running lab of that name."""

from __future__ import annotations

import os
import sys

import click

from spiderpool_lab.cluster import LabCluster

NAME = click.option("--name", default="demo", show_default=True, help="Name of the lab; labs do not see each other.")


def running(name: str) -> LabCluster:
    """The lab of that name. Exits with a hint if none is up, or if we are not root."""
    need_root()
    cluster = LabCluster(name)
    if not cluster.is_up:
        sys.exit(f"no lab named {name!r} is up; bring one up by: spiderpool-lab up --name {name}")
    return cluster


def need_root() -> None:
    """Exit with a hint unless we may make namespaces."""
    if os.geteuid() != 0:
        sys.exit("the lab makes network namespaces and needs root: run it with sudo")
