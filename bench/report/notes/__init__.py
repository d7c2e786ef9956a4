"""Engineering notes: sentences that the data decides."""
