"""A cluster that changes hands: from Alibaba Cloud's own controller of Services to spiderpool-cloud, and back.

:mod:`other_controller` stands in for the former: it leaves what that one leaves, and says what that one would change.
"""
