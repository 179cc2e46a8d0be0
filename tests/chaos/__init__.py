"""Train on real hosts, strike a fault at a random moment, and judge what is left."""
