"""Clouds: what we ask of one, and how each is asked. The only folder that talks to a cloud.

`provider` and `loadbalancers` are the protocols, `registry` finds the implementation of a provider by its name; each
provider has a folder. Nothing here decides anything or knows the API server or the kernel: what a cloud answers
becomes values of `core`.
"""
