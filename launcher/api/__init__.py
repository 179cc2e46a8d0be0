"""What programs, the CLI, a console and plug-ins call: everything that launcher does, as Python.

:class:`~launcher.Client` starts and finds runs; a :class:`~launcher.RunHandle` is one run::

    import launcher

    with launcher.Client("inventory/lab.yaml") as client:
        job = launcher.make_job(run=("train.py", "--epochs", "3"), num_nodes=2)
        run = client.run(job)             # returns at once; the run proceeds in the background
        for piece in run.logs(follow=True):
            print(piece.host, piece.name, len(piece.data))
        receipt = run.wait()              # 0 processes left, looked up on every host
        assert receipt.status == "succeeded"

    with launcher.Client() as client:     # another program, another day
        for summary in client.list():
            print(summary.run, summary.status, summary.reason)
        run = client.attach("calm-owl")   # a name, the beginning of one, or "-" for the latest
        run.exec(["nvidia-smi"])
        run.stop(grace=10)
        run.rm()

========================  ====================================================================
``Client``                ``run`` ``rerun`` ``attach`` ``list`` ``show`` ``rm`` ``host_runs``
``RunHandle``, to read    ``name`` ``folder`` ``job`` ``layout`` ``started`` ``state()``
                          ``events()`` ``followed`` ``receipt`` ``logs()`` ``reader()``
``RunHandle``, to act     ``wait`` ``wait_until_started`` ``stop`` ``request_stop`` ``pull``
                          ``request_pull`` ``exec`` ``shell`` (async only) ``rm``
========================  ====================================================================

:class:`~launcher.AsyncClient` and :class:`~launcher.AsyncRunHandle` have the same names; what goes to
hosts is awaited there. The sync ones do that work in a thread of their own, so they can be used from
any thread and in a notebook, where an event loop runs already.

**Who follows a run.** One process at a time holds the lock of a run's folder: it keeps in touch with
the hosts, records what they report, restarts what may be restarted and writes the receipt. A run that
a client starts is followed by that client; with ``detach=True`` by a process of its own. ``wait`` and
``stop`` of a handle make its client follow a run that nobody follows. Any number of handles, clients
and processes may watch a run, and ask its follower to stop it.

**What a client leaves behind.** Closing it (``with`` does) stops the runs that it started without
``detach`` and waits for their receipts; a run that it only took over it lets go of, and that run
continues on its hosts. No thread, process or connection is left. A client installs no signal handler,
prints nothing, and changes no library. A program that exits without closing its client is as one that
was killed: its runs continue on their hosts, until somebody attaches.

**Errors** are :class:`~launcher.LauncherError`: a message that says what happened where, ``hint`` with
what to do next, ``code`` for programs and ``exit_code`` as the command has it. ``InputError`` comes
before anything is done. What happens within a run is no exception but its receipt.

Modules: ``client`` and ``handles`` (the above), ``jobs`` (jobs from files and values, plans), ``runs``
(``run_job``), ``scaling`` (trials on more and more hosts), ``hosts`` (inventories, check, bootstrap,
sandbox), ``formats`` (files of other tools). The CLI is a face of these: it parses and prints.
"""
