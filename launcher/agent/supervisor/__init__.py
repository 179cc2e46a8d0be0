"""The owner of a run's processes on one host."""
