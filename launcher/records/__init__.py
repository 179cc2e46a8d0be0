"""What happened: events, the state they fold to, receipts, and the folder of a run."""
