"""The same pipeline on every kind of machine of a Ray cluster, each measured once with the node to itself."""
