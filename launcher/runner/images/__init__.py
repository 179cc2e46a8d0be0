"""The images of containers: brought to the hosts of a run, built, kept here, and asked about."""
