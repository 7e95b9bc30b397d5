"""Rules of admission, one file per kind: defaults and faults.

``default_*`` takes an object and returns it with defaults; ``validate_*`` returns all faults of an object, each with
its field and remedy. The rules do no IO: the webhooks pass them other objects, and answer the API server.
May use `core.network` and `core.ipam`.
"""
