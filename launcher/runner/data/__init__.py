"""Data sets on this machine, and on hosts."""
