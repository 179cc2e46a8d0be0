"""One run, from its first connection to its receipt, with restarts and replaced hosts."""
