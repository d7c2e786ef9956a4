"""The model in PyTorch: how it is loaded, its reference logits, its FLOPs and bytes."""
