"""What tests and benchmarks share: waiting for a condition, an agent on this host, a TCP relay."""
