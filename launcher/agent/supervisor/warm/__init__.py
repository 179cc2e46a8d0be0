"""A Python that has imported modules ahead: ranks are forked from it, and the next run may have it."""
