"""Processes on a host: how they are started, found, limited, measured and stopped."""
