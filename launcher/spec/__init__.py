"""The values and errors that all of launcher shares, and the inventory's file format."""
