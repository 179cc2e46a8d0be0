"""The web console: pages and a JSON API over the runs of this machine, for their owner alone.

``server`` listens on loopback, ``doorkeeper`` and ``peers`` let in connections of this user, and
``guard`` decides which requests get an answer. ``app`` has the routes: ``answers``, ``source``,
``logs``, ``curves``, ``compared``, ``sweeps`` and ``cluster`` make values for pages, ``stream`` sends
what is new, ``archive`` sends folders, ``actions`` changes runs, ``drafts`` plans and starts new ones.
``confined`` opens files that hosts have written, ``bodies`` reads what pages send. The pages are in
``static/``, and what others wrote in ``static/vendor/``. ``browser`` opens a browser, and
``tensorboard`` serves TensorBoard, which is guarded by itself.
"""
