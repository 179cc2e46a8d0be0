"""What programs, the CLI and plug-ins call."""
