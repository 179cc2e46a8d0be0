"""``launcher`` and ``python -m launcher``.

Python's own handler of Ctrl-C prints a traceback of what it imports just then. Until the command line
can handle it, Ctrl-C ends the process as it ends any other.
"""

import signal

_HANDLER = signal.getsignal(signal.SIGINT)
if _HANDLER is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from .cli import main as _main  # noqa: E402


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, _HANDLER)
    _main()


if __name__ == "__main__":
    main()
