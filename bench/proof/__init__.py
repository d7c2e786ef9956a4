"""How the name of a kernel tells its arithmetic: a proof of a row's label, and a figure of its report."""
