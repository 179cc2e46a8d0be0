"""Files of a run: code to the hosts, outputs back from them."""
