"""Load balancers of Services: the desired state, the observed state, and the steps between. Values in, values out.

    Service, nodes, endpoints ──build_model──▶ LoadBalancerModel ─┐
                                                                  ├──plan──▶ steps, printable
    the cloud ──(its folder in spiderpool.cloud)──▶ Observed… ────┘

`values` has the parts of balancers, `annotations` the types of annotations, `kinds` what differs between kinds of
balancers and what a Service asks of one, `backends` the servers, `model` the desired state, `checking` the faults of a
Service, `planning` and `steps` the plan, `waiting` what it leaves for later, `printing` the dry run.

Nothing here knows a cloud: each cloud's folder in `core.cloud` builds its `BalancerKind` values, and imports this
package, never the other way round.
"""
