"""Types of all data that crosses a process border: Kubernetes objects, CNI messages, the agent's HTTP API.

Attributes carry the names of the JSON fields, so that one search finds a field everywhere. Nothing here does IO or
takes decisions.
"""
