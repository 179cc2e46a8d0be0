"""One SSH connection's end on a host: answers requests, follows runs, sends logs."""
