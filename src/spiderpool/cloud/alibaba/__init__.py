"""Alibaba Cloud: its metadata service, which needs no credential, and its OpenAPI.

The metadata client belongs to every node's agent and must not import the OpenAPI libraries.
"""
