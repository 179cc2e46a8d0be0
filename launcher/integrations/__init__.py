"""Plug-ins for other tools, each in a file of its own that imports its tool: nothing else imports them.

They stand on the public names of ``launcher`` alone, as a plug-in of another package would.
"""
