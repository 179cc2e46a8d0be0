"""The parts of a session with one host: see ../host_session.py, which puts them together."""
