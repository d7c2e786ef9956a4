"""Is a row what its label says, and are its logits the model's?"""
