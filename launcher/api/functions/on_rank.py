"""The program of a rank that calls a function: it travels with the code as ``__main__``.

Standard library and Python 3.8, so that also a Python that cannot load the function says so.
"""

import json
import os
import sys
import traceback


def main():  # type: () -> None
    """Call the function of this run, and keep what it returns, or why it did not."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "call.json"), encoding="utf-8") as file:
        about = json.load(file)
    rank = os.environ.get("RANK", "0")
    attempt = os.environ.get("LAUNCHER_ATTEMPT", "0")
    folder = os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "returned", "attempt-" + attempt)
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, "rank-" + rank)
    try:
        _require(about["python"])
        keep(stem, about["returns"], _call(here, about["paths"]))
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        said = {"type": type(error).__name__, "message": str(error), "traceback": "".join(lines)}
        _write(stem + ".error", json.dumps(said).encode("utf-8", "backslashreplace"))
        raise


def _require(python):  # type: (str) -> None
    mine = "%d.%d" % sys.version_info[:2]
    if mine != python:
        raise RuntimeError(
            "the function comes from Python %s, and this rank has Python %s (%s): set python= to one"
            " of that version, as python='venv:DIR'" % (python, mine, sys.executable)
        )


def _call(here, paths):  # type: (str, list[str]) -> object
    code = os.path.dirname(here)
    sys.path[1:1] = [os.path.join(code, path) for path in paths]
    sys.path.insert(0, here)  # for the same cloudpickle that has made the file
    import cloudpickle

    sys.path.remove(here)
    with open(os.path.join(here, "call.pickle"), "rb") as file:
        function, args, kwargs = cloudpickle.load(file)
    return function(*args, **kwargs)


def keep(stem, returns, value):  # type: (str, str, object) -> None
    """Write what the function returned."""
    try:
        if returns == "json":
            data = json.dumps(value).encode("utf-8")
        else:
            data = sys.modules["cloudpickle"].dumps(value)
    except Exception as error:
        raise TypeError(
            "the function returned a %s, which cannot be sent back: %s. Return plain values, such as a"
            " list" % (type(value).__name__, error)
        ) from error
    _write(stem + "." + returns, data)


def _write(path, data):  # type: (str, bytes) -> None
    """Write a file whole or not at all: outputs are brought at any moment."""
    scratch = os.path.join(os.environ["LAUNCHER_RUN_DIR"], os.path.basename(path))
    with open(scratch, "wb") as file:
        file.write(data)
    os.replace(scratch, path)


if __name__ == "__main__":
    main()
