"""Whether more hosts pay, by short trials: `launcher scale`."""
