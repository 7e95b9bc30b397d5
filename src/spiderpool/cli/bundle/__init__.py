"""`bundle`: a support archive without credentials."""
