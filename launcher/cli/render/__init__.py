"""What the CLI prints: plans, runs, logs, receipts, tables."""
