"""Queues: what is ready, whose turn it is, what is too much or too old, and what comes back."""
