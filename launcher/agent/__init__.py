"""The program on a host that owns the processes of a run. Standard library and Python 3.8 only.

It never imports the rest of launcher; launcher knows it through :mod:`launcher.agent.base.protocol`.
"""
