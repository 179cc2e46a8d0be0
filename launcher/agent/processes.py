"""Finds, starts and signals processes through /proc: what a supervisor does to what it owns.

Not responsible for when: the supervisor decides.
"""

import os
import signal
import subprocess

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option, value):
    """prctl(2), or False where ctypes or the kernel lack it."""
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0
    except Exception:  # no ctypes, no libc of that kind: the environment scan still finds all
        return False


def start(argv, env, cwd, stdout, stderr):
    """Starts ``argv`` in a session of its own, streams appended to two files, stdin empty.

    The process is killed by the kernel when its supervisor dies. Raises OSError when it cannot be
    executed.
    """
    parent = os.getpid()

    def in_child():
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    # A search on PATH has to use the PATH of the process, not the one of this interpreter.
    program = find_program(argv[0], env.get("PATH", os.defpath), cwd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    out = os.open(stdout, flags, 0o600)
    try:
        err = os.open(stderr, flags, 0o600)
        try:
            return subprocess.Popen(
                argv,
                executable=program,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=in_child,
            )
        finally:
            os.close(err)
    finally:
        os.close(out)


def find_program(name, path, cwd):
    """The file that ``name`` means in ``cwd`` with this PATH. Raises FileNotFoundError."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        candidate = os.path.join(cwd, folder, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(2, "command not found on PATH (%s)" % path, name)


def table():
    """``{pid: (parent, state, start time)}`` of all processes that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                text = file.read()
        except OSError:
            continue
        fields = text[text.rfind(b")") + 2 :].split()
        found[int(name)] = (int(fields[1]), fields[0].decode(), int(fields[19]))
    return found


def descendants(root):
    """Pids below ``root``, zombies left out."""
    processes = table()
    children = {}
    for pid, (parent, _, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found, queue = [], list(children.get(root, ()))
    while queue:
        pid = queue.pop()
        queue.extend(children.get(pid, ()))
        if processes[pid][1] not in "ZX":
            found.append(pid)
    return found


def marked(run_id, host):
    """Pids whose environment says that they belong to this run on this host.

    Returns ``(pids, scanned, unreadable)``; processes of other users cannot be read, nor are they
    ours.
    """
    wanted = {b"LAUNCHER_RUN_ID=" + os.fsencode(run_id), b"LAUNCHER_HOST=" + os.fsencode(host)}
    found, scanned, unreadable = [], 0, 0
    for pid, (_, state, _) in table().items():
        if state in "ZX" or pid == os.getpid():
            continue
        scanned += 1
        try:
            with open("/proc/%d/environ" % pid, "rb") as file:
                environ = file.read().split(b"\0")
        except OSError:
            unreadable += 1
            continue
        if wanted.issubset(environ):
            found.append(pid)
    return found, scanned, unreadable


def send(pids, number):
    """Signals each, whether it is still there or not."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def describe(pid):
    """A process in a few words, for a receipt."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    return {"pid": pid, "command": words.strip()[:200]}


def out_of_memory_kills():
    """How many processes this kernel has killed for memory since it booted, or None."""
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None
