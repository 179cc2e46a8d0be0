"""The Python API: everything that launcher does, for programs, plug-ins and the CLI.

:class:`~launcher.Client` starts and finds runs; a :class:`~launcher.RunHandle` is one run::

    import launcher

    with launcher.Client("inventory/lab.yaml") as client:
        job = launcher.make_job(run=("train.py", "--epochs", "3"), num_nodes=2)
        run = client.run(job)             # returns at once; the run proceeds in the background
        for line in run.lines(follow=True):
            print(line.host, line.rank, line)
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
``Client``, for runs      ``run`` ``rerun`` ``reserve`` ``attach`` ``list`` ``names`` ``show``
                          ``select`` ``diff`` ``annotate`` ``refresh`` ``rm``; async only:
                          ``follow_all``
``Client``, for hosts     ``inventory`` ``host_runs`` ``host_gpus`` ``queue`` ``projects`` ``cluster``
                          ``kept_pythons`` ``reload`` ``exec`` ``push``; async only: ``watch_cluster``
``RunHandle``, to read    ``name`` ``folder`` ``job`` ``layout`` ``started`` ``status`` ``state()``
                          ``events()`` ``followed`` ``receipt`` ``lines()`` ``logs()``
                          ``outputs`` ``reader()``
``RunHandle``, to act     ``wait`` ``wait_until_started`` ``detach`` ``stop`` ``request_stop``
                          ``pull`` ``request_pull`` ``not_brought`` ``exec`` ``rm``; async only:
                          ``shell`` ``forward`` ``finish``
========================  ====================================================================

:class:`~launcher.AsyncClient` and :class:`~launcher.AsyncRunHandle` have the same names; what goes to
hosts is awaited there. The sync classes do that work in a thread of their own, so they can be used
from any thread, and in a notebook, where an event loop already runs.

**Who follows a run.** One process at a time holds the lock of a run's folder. That follower stays
connected to the hosts, records what they report, restarts the run if allowed, and writes the receipt.
The client that starts a run follows it; with ``detach=True`` a separate process does. If a run has no
follower, ``wait`` and ``stop`` of a handle make its client follow it. Any number of handles, clients
and processes can watch a run and ask its follower to stop it.

**What a client leaves behind.** Closing it (``with`` does) stops the runs that it started without
``detach`` and waits for their receipts. Runs that it attached to continue on their hosts. No thread,
process or connection is left. A client installs no signal handler, prints nothing, and changes no
library. If a program ends without closing its ``Client``, processes in the background follow its runs
from then on; for a run that has not begun yet, it says so on stderr and waits. If it is killed, its runs
continue on their hosts, and any client can attach to them. One that had not begun is over then, as
``launcher-died``; so it is with an ``AsyncClient`` whose loop ends.

**Errors** are :class:`~launcher.LauncherError`: the message says what happened where, ``hint`` what to
do next; ``code`` is for programs, and ``exit_code`` is the command's. ``InputError`` is raised before
anything is done. A failure within a run raises nothing: it is in the receipt.

**Functions.** ``launcher.processes`` and ``launcher.Executor`` call a function on every rank of a run,
and return what it returned there.

Modules: ``client`` and ``handles`` are the above, ``async_client`` and ``async_handle`` the same for
asyncio. They stand on ``recorded_runs`` and ``recorded_run``, which read what is here, and
``host_requests``; ``arguments`` are what they take by name. ``jobs`` makes and plans jobs, with
``environment_paths``, ``runs`` has ``run_job``, ``functions`` calls functions over ranks,
``reservations`` hold GPUs, ``clusters`` keep Dask or Ray, ``sweeps`` and ``scaling`` run many
trials. ``plugins`` has what plug-ins are made of. ``hosts``, ``discovery``, ``check``,
``bootstrap`` and ``sandbox`` are about machines, ``housekeeping`` about their disks, ``data``
and ``images`` about data sets and images on them, ``credentials`` about those of object stores,
``formats`` about files of other tools, ``tracking`` about servers of MLflow.
``inventory_lookup``, ``settings``, ``following`` and ``user_service`` serve the command line,
which parses, calls these, and prints.
"""
