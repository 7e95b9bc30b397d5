"""Fuzzing of everything that comes from outside: ``make fuzz``. One target for each kind of input (`targets`).

A target takes bytes and may raise only the errors that the code under test documents. `corpus` holds its seeds, one
file each; the ordinary suite runs them all (`test_targets`), and `engine` begins with them.
"""
