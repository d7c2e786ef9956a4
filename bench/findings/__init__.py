"""What a run shows, as data: computed once, written by the reports."""
