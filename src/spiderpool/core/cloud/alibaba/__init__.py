"""Facts about Alibaba Cloud on which decisions depend: names, annotations, parameters and rules of its API.

No other folder of core knows a cloud. `kinds` has the two kinds of load balancers that the other folders work with.
"""
