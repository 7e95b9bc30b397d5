"""The accounts of the chart's Jobs."""

from __future__ import annotations

from pathlib import Path

import yaml

from spiderpool_lab import chart
from spiderpool_lab.control_plane import ControlPlane


def job_account(plane: ControlPlane, template: str, name: str, *values: str) -> Path:
    """The kubeconfig of a Job's account, with the roles that the chart gives it."""
    made = chart.documents(chart.template(template, *values))
    plane.apply(yaml.safe_dump_all(each for each in made if "Role" in each["kind"] or each["kind"] == "ServiceAccount"))
    return plane.service_account_kubeconfig(chart.NAMESPACE, name)
