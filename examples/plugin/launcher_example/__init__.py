"""Plug-ins for launcher: one module for each, so that only what is used is imported."""
