"""Scripts that are taken to hosts as they are. Not imported here: they need what the hosts have."""
