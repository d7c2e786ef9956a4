"""How a model is called: one file a runtime, found by its name."""
