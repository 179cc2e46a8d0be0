"""Processes on a host: started, owned, limited, measured, ended."""
