"""`ui`: a page for browsers, served on loopback by the user's own kubeconfig; it only reads."""
