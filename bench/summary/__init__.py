"""From raw runs to one tidy table: a row a variant and batch size."""
