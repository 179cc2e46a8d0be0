"""Bare hosts made ready for jobs, over Fabric: `launcher bootstrap`."""
