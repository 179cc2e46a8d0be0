"""The data sets of this host: whole or not there, read-only, and used under a lock."""
