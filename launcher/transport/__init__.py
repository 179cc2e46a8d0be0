"""SSH, rsync, and the agent on its way to a host and at the end of a connection."""
