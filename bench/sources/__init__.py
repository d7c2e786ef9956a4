"""Where the model and the sentences come from."""
