"""Clouds: what we ask of one, and how each is asked. The only folder that speaks to a cloud.

It decides nothing and knows neither the API server nor the kernel; what a cloud says becomes values of `core`.
"""
