"""How the machine is while a model is timed: the GPU's own counters, other load, memory."""
