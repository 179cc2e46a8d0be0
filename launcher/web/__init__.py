"""The web console: pages and a JSON API over the runs of this machine, for their owner alone.

``guard`` decides who gets an answer, ``confined`` opens files that hosts have written, ``answers``
makes values for pages, ``stream`` sends what is new, ``app`` has the routes, and ``server`` serves
them on loopback.
"""
