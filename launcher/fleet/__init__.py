"""Machines outside a run: finding, preparing, checking and cleaning them."""
