"""Real training, a fault at a random moment, and a verdict on what is left."""
