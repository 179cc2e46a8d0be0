"""SSH and rsync connections to hosts, and the client of the agent."""
