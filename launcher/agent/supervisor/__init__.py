"""The process that owns a run on one host."""
