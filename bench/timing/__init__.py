"""The closed loop: one caller that sends the next batch when the last one is back."""
