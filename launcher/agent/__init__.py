"""The remote side: owns the processes of a run on one host. Standard library and Python 3.8 only.

It never imports the rest of launcher; launcher knows it through :mod:`launcher.agent.base.protocol`.
"""
