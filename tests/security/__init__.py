"""Attacks, one file for each subject: a test does what an attacker can do and asserts that the harm does not come.

Each attacker and what stops them: docs/security.md. A test asserts the harm, not a status: that the forged link was
not believed, not that an error was raised.
"""
