"""`migrate`: takes a cluster over from Spiderpool's own release, and gives it back."""
