"""spiderpoolctl: what an operator asks for on the command line. It prints; it changes nothing in a cluster."""
