"""`pool drain`, `pool resize` and `subnet renumber`: pods move to other addresses, by eviction alone."""
