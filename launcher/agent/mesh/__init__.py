"""What joins the hosts of a run for a framework: commands over TLS, ports to wait for, ranks."""
