"""What may be said on a channel, and what it leads to."""
