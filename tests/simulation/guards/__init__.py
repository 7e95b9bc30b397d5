"""``make simulate GUARDS=1``: guards are taken out of the product one at a time, and something must notice each.

A guard is a replacement of text in a list, not a patch: it names no lines and no context, so code around it may move
and change, and what it is for stands beside it. If its own text changes, `test_guards.py` fails and tells which.

    guard.py       what a guard is
    agent.py, collection.py, client.py, cloud.py   the guards
    page.py        docs/reference/guards.md
    __main__.py    takes each out and looks who notices
"""

from __future__ import annotations

from tests.simulation.guards import agent, client, cloud, collection

GUARDS = (*agent.GUARDS, *collection.GUARDS, *client.GUARDS, *cloud.GUARDS)
