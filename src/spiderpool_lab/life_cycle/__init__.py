"""What happens to a cluster's traffic while the product is updated, rolled back, removed and installed again."""
