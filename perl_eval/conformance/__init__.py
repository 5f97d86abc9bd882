"""A conformance suite for losses of RL trainers: exact gradients in languages that can be listed."""
