"""Decisions about networks: which ones a pod asks for, what their configuration says, and the steps of `plumbing`.

May use `core.ipam`; admission and cloud may use this package.
"""
