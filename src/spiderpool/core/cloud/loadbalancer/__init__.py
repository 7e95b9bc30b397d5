"""Load balancers of Services: what should be, what is, and the steps between. Values in, values out.

    Service, nodes, endpoints ──wanted──▶ Model ─┐
                                                 ├──plan──▶ steps, printable
    the cloud ──(cloud/alibaba observes)──▶ Seen ┘

Here: `values` (model and observation), `annotations` (what a Service may ask for), `backends` (which servers), `clb`
and `nlb` (settings in the cloud's words), `dialects` (both side by side), `model` (what should be), `checking` (why it
cannot be), `naming` (what is ours), `planning`, `steps`, and `printing` (the dry run). Nothing here knows how the cloud
is called.
"""
