"""Tell how far a stage is."""


def log(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)
