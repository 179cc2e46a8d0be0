"""Hosts looked at before anything is launched: `launcher check`."""
