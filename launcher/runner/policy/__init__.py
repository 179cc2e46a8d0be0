"""Pure decisions of a run: restart, replace a host, go on with fewer."""
