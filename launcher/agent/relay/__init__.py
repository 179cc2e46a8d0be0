"""The host's end of one SSH connection: answers requests, follows runs, sends logs."""
