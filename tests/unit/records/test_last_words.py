"""What failed is found below what torchrun, MPI and others say of it."""

from __future__ import annotations

import pytest

from launcher.records import causes
from launcher.records.last_words import (
    ends_in_traceback,
    essence,
    failed_tasks,
    headline,
    spoken,
)

OWN = 'Traceback (most recent call last):\n  File "b.py", line 1, in <module>\n    raise X\n'
#: As torch 2.13 ends.
TORCHRUN = """\
E1127 18:13:03.509000 13629 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1)
Traceback (most recent call last):
  File "/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
b.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  error_file: <N/A>
============================================================
"""  # noqa: W291
ACCELERATE = """\
Traceback (most recent call last):
  File "/venv/bin/accelerate", line 8, in <module>
    sys.exit(main())
subprocess.CalledProcessError: Command '['python', 'b.py']' returned non-zero exit status 1.
"""
STOPPED = """\
W1127 18:13:03.509000 13629 torch/distributed/elastic/agent/server/api.py:739] Received Signals.SIGTERM
Traceback (most recent call last):
  File "/venv/bin/torchrun", line 8, in <module>
torch.distributed.elastic.multiprocessing.api.SignalException: Process 7 got signal: 15
"""
MPI = """\
--------------------------------------------------------------------------
MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD
with errorcode 1.
--------------------------------------------------------------------------
"""
DOWNLOAD = OWN + "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure>\n"
PEER = OWN + "RuntimeError: [/gloo/pair.cc:538] Connection closed by peer [10.0.0.2]:41234\n"


@pytest.mark.parametrize("wrapper", [TORCHRUN, ACCELERATE, STOPPED, MPI, ACCELERATE + TORCHRUN])
def test_a_wrapper_hides_nothing(wrapper: str) -> None:
    assert essence(DOWNLOAD + wrapper) == DOWNLOAD
    found = causes.find((DOWNLOAD + wrapper).encode(), 1)
    assert found is not None
    assert found.code == "no-internet"


@pytest.mark.parametrize("alone", [TORCHRUN, ACCELERATE, STOPPED, MPI])
def test_what_only_a_wrapper_said_stays(alone: str) -> None:
    assert essence(alone) == alone


def test_the_rank_that_lost_its_peer_is_not_the_cause() -> None:
    assert essence(DOWNLOAD + PEER + TORCHRUN) == DOWNLOAD
    assert essence(DOWNLOAD + PEER) == DOWNLOAD + PEER, "without a wrapper it is one process"


def test_an_error_of_ones_own_is_no_wrapper() -> None:
    handled = OWN + "KeyError: 'x'\n"
    assert essence(handled + DOWNLOAD) == handled + DOWNLOAD
    assert essence("epoch 1\n") == "epoch 1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OWN + "ValueError: x\n", True),
        ("epoch 1\n" + OWN + "skrl.Error\n\n", True),
        (OWN + "ValueError: x\ngoing on without it\n", False),
        ("Traceback (most recent call last):\n", False),
        ("epoch 1\n", False),
        ("", False),
    ],
)
def test_a_traceback_at_the_very_end(text: str, expected: bool) -> None:
    assert ends_in_traceback(text) is expected


SRUN = "launcher: srun: task 1 on gpu2 exited with 1\n"
HYDRA = "\nSet the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n"


@pytest.mark.parametrize("below", [SRUN, SRUN.rstrip(), HYDRA])
def test_what_others_print_below_a_traceback_ends_it_as_well(below: str) -> None:
    assert ends_in_traceback(DOWNLOAD + below)


def test_hydras_advice_is_no_last_word() -> None:
    assert essence(DOWNLOAD + HYDRA).strip() == DOWNLOAD.strip()


@pytest.mark.parametrize(
    ("stderr", "stdout", "is_stdout"),
    [
        ("", "", False),
        ("module: command not found\n", "", False),
        ("", "epoch 1\n", True),
        ("+ tee log.txt\n++ date\n", "epoch 1\n", True),
        ("+ tee log.txt\nmodule: command not found\n", DOWNLOAD + SRUN, True),
        ("UserWarning: slow\n", DOWNLOAD + TORCHRUN, True),
        ("UserWarning: slow\n", DOWNLOAD + "going on without it\n", False),
        ("Segmentation fault\n", "epoch 1\n", False),
        (DOWNLOAD, PEER, False),
        ("+ python train.py\n" + DOWNLOAD, "epoch 1\n", False),
    ],
)
def test_the_stream_that_says_why(stderr: str, stdout: str, is_stdout: bool) -> None:
    assert spoken(stderr, stdout) == (stdout if is_stdout else stderr)


def test_marked_lines_of_the_task_that_failed() -> None:
    lines = [f"{rank}: {line}\n" for line in DOWNLOAD.splitlines() for rank in (0, 1)]
    text = "epoch 1\n" + "".join(lines).replace("0: urllib", "0: other") + SRUN
    assert essence(text) == DOWNLOAD + SRUN
    found = causes.find(text.encode(), 1)
    assert found is not None
    assert found.code == "no-internet"
    assert failed_tasks(text) == ["task 1 on gpu2 exited with 1"]


def test_a_message_longer_than_the_screen_begins_with_the_exception() -> None:
    rows = [f"[{number} 0.5 0.5]" for number in range(30)]
    lines = [*OWN.splitlines(), "ValueError: Exception encountered: array(", *rows]
    assert headline(lines, 12)[0].startswith("ValueError")
    assert headline(lines, 12)[-1] == rows[-1]
    assert len(headline(lines, 12)) == 13
    short = [*OWN.splitlines(), "ValueError: x"]
    assert headline(short, 12) == short
