"""spiderpool-cloud: what the cluster needs of its cloud. It alone has credentials of the cloud; pods do not need it."""
