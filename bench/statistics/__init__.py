"""Numbers alone: intervals, verdicts and noise, without anything of the project."""
