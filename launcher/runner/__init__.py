"""One run from connection to receipt, and its recovery."""
