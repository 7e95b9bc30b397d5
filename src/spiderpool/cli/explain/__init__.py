"""`explain`: why a pod has its addresses, or none."""
