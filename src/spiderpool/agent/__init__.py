"""The node daemon: serves the CNI executable, gives addresses, makes interfaces. One task group, no globals."""
