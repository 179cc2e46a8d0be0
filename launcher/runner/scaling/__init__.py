"""Short trials that show whether more hosts pay off: ``launcher scale``."""
