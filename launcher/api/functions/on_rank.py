"""The program of a rank that calls a function: it travels with the code as ``__main__``.

Standard library and Python 3.8, so that also a Python that cannot load the function says so.
"""

import json
import linecache
import os
import sys
import traceback

#: Characters of what a rank says about its failure, at most: the beginning and the end are kept.
MESSAGE, TRACEBACK = 4000, 60000


def main():  # type: () -> None
    """Call the function of this run, and keep what it returns, or why it did not.

    Where files go is read before: the function may change the environment.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "call.json"), encoding="utf-8") as file:
        about = json.load(file)
    rank = os.environ.get("RANK", "0")
    attempt = os.environ.get("LAUNCHER_ATTEMPT", "0")
    folder = os.path.join(os.environ["LAUNCHER_OUTPUT_DIR"], "returned", "attempt-" + attempt)
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, "rank-" + rank)
    scratch = os.path.join(os.environ["LAUNCHER_RUN_DIR"], "rank-" + rank)
    try:
        _require(about["python"])
        _show_lines(about["lines"])
        value = _call(here, about["paths"])
        _write(stem + "." + about["returns"], _packed(about["returns"], value), scratch)
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        said = {
            "type": type(error).__name__,
            "message": _shortened(_text(error), MESSAGE),
            "traceback": _shortened(
                "".join(traceback.format_exception(type(error), error, trace)), TRACEBACK
            ),
        }
        _write(stem + ".error", json.dumps(said).encode("utf-8"), scratch)
        raise


def _text(error):  # type: (BaseException) -> str
    try:
        return str(error)
    except Exception:  # whatever __str__ of a user's class raises
        return "<its str() failed>"


def _shortened(text, most):  # type: (str, int) -> str
    left = len(text) - most
    if left <= 0:
        return text
    return "%s\n... %d characters ...\n%s" % (text[: most // 2], left, text[-(most // 2) :])


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


def _show_lines(lines):  # type: (dict[str, dict[str, str]]) -> None
    """Have tracebacks show the lines of functions whose files are not here, as those of a notebook."""
    for name, known in lines.items():
        all_lines = ["\n"] * max(map(int, known))
        for number, line in known.items():
            all_lines[int(number) - 1] = line
        # Without a time of change, nobody looks for a file of that name.
        linecache.cache[name] = (sum(map(len, all_lines)), None, all_lines, name)


def _packed(returns, value):  # type: (str, object) -> bytes
    """Return what the function returned as the bytes of a file."""
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
    return data


def _write(path, data, scratch):  # type: (str, bytes, str) -> None
    """Write a file whole or not at all: outputs are brought at any moment."""
    with open(scratch, "wb") as file:
        file.write(data)
    os.replace(scratch, path)


if __name__ == "__main__":
    main()
