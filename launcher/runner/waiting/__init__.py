"""A run that waits for its GPUs: its place in the queue, and what it leaves to its hosts."""
