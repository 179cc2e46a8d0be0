"""Values that all of launcher shares, its errors, and the inventory's file format."""
