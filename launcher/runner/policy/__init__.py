"""Pure decisions of a run: restart it, replace a host, continue with fewer."""
