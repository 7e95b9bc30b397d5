"""Alibaba Cloud: its metadata service, which needs no credential, and its OpenAPI.

Node agents import the metadata client, so `metadata` and `policy` must not import the OpenAPI libraries.
"""
