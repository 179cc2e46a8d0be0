"""A run that waits on several hosts, and begins there without a launcher: its leader, lines, votes."""
