"""What the hosts of a run do with each other: commands over TLS, ports to wait for, ranks."""
