"""Builds the images of the product: without an engine, from Debian packages, locked wheels and programs built here."""
