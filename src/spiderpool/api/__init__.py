"""Shapes: everything that crosses a border (custom resources, CNI, annotations). No IO, no decisions.

Attributes carry the names of the JSON fields, so that one word finds a field everywhere.
"""
