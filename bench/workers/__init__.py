"""One measuring process at a time: how it is started, told what to do, and ended."""
