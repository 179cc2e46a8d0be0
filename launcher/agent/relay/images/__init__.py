"""The images of containers on this host: looked up, brought, built, and removed."""
