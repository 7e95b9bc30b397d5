"""Rules of admission, one file per kind: what we fill in, and what we refuse.

``default_*`` takes an object and returns it with defaults; ``validate_*`` returns every fault that
it finds, each with the path of the field as the user wrote it and what to do about it.
"""
