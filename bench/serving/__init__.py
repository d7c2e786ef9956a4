"""Rows under load: requests arrive at random times, batches form of what waits, and latency counts from arrival."""
