"""Access to the Kubernetes API: client, informers, work queue, leader election, events. No other folder talks to it.

It makes no decisions about addresses or networks: those are functions of ``spiderpool.core``.
"""
