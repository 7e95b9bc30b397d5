"""Access to clouds: the protocols that each cloud implements, and the implementations. No other folder calls a cloud.

`provider` and `loadbalancers` are the protocols, `registry` finds the implementation of a provider by its name; each
provider has a folder. Nothing here decides anything or knows the API server or the kernel: what a cloud answers
becomes values of `core`.
"""
