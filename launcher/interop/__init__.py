"""Other tools' inventories, task files and batch scripts."""
