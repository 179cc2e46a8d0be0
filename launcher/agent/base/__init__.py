"""What every part of the agent stands on: frames, the journal, sockets, the wire protocol."""
