"""The only folder that speaks to the API server: client, informers, work queue, events."""
