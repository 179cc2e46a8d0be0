"""The parts of a session with one host, which ../host_session.py puts together."""
