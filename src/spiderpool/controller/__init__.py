"""The cluster daemon: admission, networks, coordinator and pool status, and the collection of orphaned addresses."""
