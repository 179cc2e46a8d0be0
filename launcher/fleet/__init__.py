"""Machines outside a run: find, prepare, check and clean them up."""
