"""Prepare bare hosts for jobs over Fabric: `launcher bootstrap`."""
