"""Measurements against the limits that the machine and the API server set, in one run."""
