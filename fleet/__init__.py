"""The same pipeline on every machine type of a Ray cluster, each measured once with the node to itself."""
