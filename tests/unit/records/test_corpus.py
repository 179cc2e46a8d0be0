"""Last words of real programs, and what a receipt says of them.

``tests/last_words/provoke.py`` made the corpus. A cause that is not certain is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.records import causes, receipt
from launcher.records.failure import Failure
from launcher.records.state import RunState

CORPUS = Path(__file__).parents[2] / "last_words" / "corpus"
#: The exception of most that have no cause.
OWN = "ValueError: bad sample 17"

#: By name: the code of the cause, or None, and what the screen must show.
RIGHT: dict[str, tuple[str | None, str]] = {
    "own-value-error": (None, "ValueError: the loss is nan in step 7"),
    "own-exit-message": (None, "no data for split train"),
    "own-exit-7": (None, "giving up"),
    "own-shape": (None, "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3"),
    "own-key": (None, "KeyError: 'labels'"),
    "own-state-dict": (None, "size mismatch for weight"),
    "own-syntax": (None, "SyntaxError: invalid syntax"),
    "own-circular-import": (None, "ImportError: cannot import name 'Model' from partially initi"),
    "own-assert-after-warning": (None, "AssertionError"),
    "own-quoted-source": (None, "Bad: x"),
    "own-rich-traceback": (None, "ValueError: x"),
    "own-group": (None, "ValueError: one of the group"),
    "torchrun-value": (None, OWN),
    "torchrun-import": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "torchrun-weights-only": ("weights-only", "Weights only load failed"),
    "accelerate-value": (None, OWN),
    "accelerate-import": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "torchrun-stopped": (None, "SignalException"),
    "spawn-value": (None, OWN),
    "spawn-disk": ("disk-full", "OSError: [Errno 28] No space left on device"),
    "spawn-no-guard": ("no-main-guard", "An attempt has been made to start a new process"),
    "pool-value": (None, OWN),
    "hydra-value": (None, OWN),
    "hydra-import": ("missing-module", "ModuleNotFoundError: No module named 'colorlogs'"),
    "hydra-override": (None, "Could not override 'trainer'"),
    "make-import": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "mpi-value": (None, OWN),
    "mpi-unreachable": ("mpi-unreachable", "MPI_Init_thread"),
    "mpi-import": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "mpi-no-program": ("no-such-program", "Executable: solver"),
    "mpi-as-root": ("mpi-as-root", "MPI_ALLOW_RUN_AS_ROOT"),
    "mpi-by-srun": ("mpi-by-srun", "Local abort before MPI_INIT completed"),
    "mpi-tag-output": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "torchrun-tee": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "mpi-no-slots": ("mpi-no-slots", "--oversubscribe"),
    "ray-value": (None, OWN),
    "ray-import": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "ray-no-cluster": (
        "no-ray-cluster",
        "ConnectionError: Could not find any running Ray instance. Pl",
    ),
    "spark-value": (None, OWN),
    "spark-no-class": (None, "java.lang.ClassNotFoundException: org.lab.Reader"),
    "dask-value": (None, OWN),
    "dask-no-scheduler": (
        "connection-refused",
        "OSError: Timed out trying to connect to tcp://127.0.0.1:8786",
    ),
    "missing-submodule": (
        "missing-submodule",
        "ModuleNotFoundError: No module named 'torch.ao.quantize_of_old'",
    ),
    "group-import": ("missing-module", "ModuleNotFoundError: No module named 'einops_exts'"),
    "worker-value": (None, OWN),
    "worker-missing-file": (
        "missing-path",
        "FileNotFoundError: [Errno 2] No such file or directory: '/da",
    ),
    "worker-killed": (None, "RuntimeError: DataLoader worker (pid(s) 12078) exited unexpe"),
    "worker-shared-memory": (
        "shared-memory",
        "RuntimeError: unable to allocate shared memory(shm) for file",
    ),
    "weights-only": (
        "weights-only",
        "_pickle.UnpicklingError: Weights only load failed. This file",
    ),
    "checkpoint-cut": (
        "broken-checkpoint",
        "RuntimeError: PytorchStreamReader failed reading zip archive",
    ),
    "checkpoint-html": (
        "not-a-checkpoint",
        "_pickle.UnpicklingError: Weights only load failed. In PyTorc",
    ),
    "checkpoint-lfs": ("not-a-checkpoint", "_pickle.UnpicklingError: invalid load key, 'v'."),
    "checkpoint-empty": (None, "EOFError"),
    "checkpoint-of-gpu": (
        "checkpoint-of-gpu",
        "RuntimeError: Attempting to deserialize object on a CUDA dev",
    ),
    "safetensors-cut": (
        "broken-checkpoint",
        "safetensors._safetensors_rust.SafetensorError: Error while d",
    ),
    "cuda-no-driver": ("no-gpus", "RuntimeError: Found no NVIDIA driver on your system. Please"),
    "cuda-of-cpu-build": (
        "torch-without-cuda",
        "AssertionError: Torch not compiled with CUDA enabled",
    ),
    "cuda-set-device": (
        "torch-without-cuda",
        "AttributeError: module 'torch._C' has no attribute '_cuda_se",
    ),
    "nccl-without-gpu": ("no-gpus", "ValueError: ProcessGroupNCCL is only supported with GPUs, no"),
    "no-rank": ("missing-variable", "KeyError: 'RANK'"),
    "no-env-rendezvous": (
        "missing-variable",
        "ValueError: Error initializing torch.distributed using env:/",
    ),
    "port-taken": ("port-taken", "torch.distributed.DistNetworkError: The server socket has fa"),
    "nobody-came": (
        "meeting-timeout",
        "torch.distributed.DistStoreError: Timed out after 5 seconds",
    ),
    "nobody-listens": (
        "meeting-timeout",
        "torch.distributed.DistNetworkError: The client socket has ti",
    ),
    "no-interface": (
        "no-such-interface",
        "RuntimeError: [enforce fail at /__w/pytorch/pytorch/third_pa",
    ),
    "peer-gone-early": (
        "peer-closed",
        "RuntimeError: Gloo connectFullMesh failed with [/__w/pytor",
    ),
    "peer-gone": ("peer-closed", "RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/tr"),
    "group-left-open": ("thread-at-exit", "terminate called without an active exception"),
    "group-kept-by-model": ("thread-at-exit", "terminate called without an active exception"),
    "c10d-store-left": (
        "peer-closed",
        "RendezvousConnectionError: The connection to the C10d store has",
    ),
    "barrier-alone": (
        "collective-timeout",
        "RuntimeError: [Rank 0]: Rank 1 failed to pass monitoredBarri",
    ),
    "other-collective": (
        "collective-mismatch",
        "RuntimeError: Detected mismatch between collectives on ranks",
    ),
    "ddp-unused": (
        "unused-parameters",
        "RuntimeError: Expected to have finished reduction in the pri",
    ),
    "segfault": ("segfault", ""),
    "killed": ("killed", "epoch 3"),
    "memory-torch": (
        "host-allocation",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0.",
    ),
    "memory-numpy": (
        "host-allocation",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocat",
    ),
    "memory-python": ("host-allocation", "MemoryError"),
    "disk-full": (
        "checkpoint-not-written",
        "RuntimeError: [enforce fail at inline_container.cc:672] . un",
    ),
    "open-files": ("too-many-files", "OSError: [Errno 24] Too many open files: 'train.py'"),
    "missing-data": (
        "missing-path",
        "FileNotFoundError: [Errno 2] No such file or directory: '/da",
    ),
    "missing-own-file": (None, "FileNotFoundError: [Errno 2] No such file or directory: 'dat"),
    "read-only-code": ("read-only", "OSError: [Errno 30] Read-only file system: 'log.txt'"),
    "no-access": ("no-permission", "PermissionError: [Errno 13] Permission denied: 'log.txt'"),
    "missing-library": (
        "missing-library",
        "OSError: libcudnn.so.9: cannot open shared object file: No s",
    ),
    "not-executable": ("not-executable", "bash: line 1: ./train.sh: Permission denied"),
    "not-executable-inside": (
        "program-not-executable",
        "PermissionError: [Errno 13] Permission denied: './prepare.sh",
    ),
    "dos-lines": ("no-interpreter", "bash: line 1: ./train.sh: cannot execute: required file not"),
    "dos-lines-inside": ("dos-lines", "Unknown option"),
    "no-command": ("command-not-found", "train.sh: line 2: trian: command not found"),
    "no-command-inside": (
        "no-such-program",
        "FileNotFoundError: [Errno 2] No such file or directory: 'nvi",
    ),
    "no-numactl": ("command-not-found", "train.sh: line 2: numactl: command not found"),
    "unknown-argument": ("unknown-argument", "train.py: error: unrecognized arguments: --nodes 2"),
    "unknown-argument-torchrun": (
        "unknown-argument",
        "train.py: error: unrecognized arguments: --nodes 2",
    ),
    "local-rank-argument": (
        "local-rank-argument",
        "train.py: error: unrecognized arguments: --local-rank=0",
    ),
    "bad-value": (None, "train.py: error: argument --lr: invalid float value: 'x'"),
    "click-option": ("unknown-argument", "Error: No such option '--nodes'."),
    "hf-argument": (
        "unknown-argument",
        "ValueError: Some specified arguments are not used by the HfA",
    ),
    "own-name-torch": (None, "AttributeError: module 'torch' has no attribute 'zeros'"),
    "own-name-datasets": (
        "own-name",
        "ImportError: cannot import name 'load_dataset' from partiall",
    ),
    "own-name-random": ("own-name", "AttributeError: partially initialized module 'random' has no"),
    "own-name-random-313": (
        "own-name",
        "AttributeError: module 'random' has no attribute 'randint' (",
    ),
    "own-name-script": ("own-name", "AttributeError: partially initialized module 'wandb' has no"),
    "wandb-no-key": (
        "no-tracker-key",
        "wandb.errors.errors.UsageError: No API key configured. Use `",
    ),
    "comet-no-key": ("no-comet-key", "ValueError: Comet.ml requires an API key."),
    "comet-start-no-key": ("no-comet-key", "ValueError: Comet.ml requires an API key."),
    "neptune-no-token": ("no-neptune-token", "NeptuneMissingApiTokenException"),
    "clearml-no-key": ("no-clearml-key", "MissingConfigError: It seems ClearML is not configured"),
    "hub-gated": ("hub-gated", "OSError: You are trying to access a gated repo."),
    "hub-gated-snapshot": ("hub-gated", "huggingface_hub.errors.GatedRepoError: 401 Client Error."),
    "hub-gated-data": ("hub-gated", "Dataset 'imagenet-1k' is a gated dataset on"),
    "hub-no-token": ("hub-gated", "LocalTokenNotFoundError: Token is required"),
    "hub-gated-not-granted": ("hub-not-granted", "OSError: You are trying to access a gated repo."),
    "hub-gated-data-not-granted": (
        "hub-not-granted",
        "Dataset 'imagenet-1k' is a gated dataset on",
    ),
    "hub-private": ("hub-not-found", "huggingface_hub.errors.RepositoryNotFoundError: 401 Client"),
    "hub-private-model": ("hub-not-found", "OSError: ana/mine is not a local folder and is not a"),
    "wandb-offline": (
        "tracker-unreachable",
        "wandb.errors.errors.CommError: Timed out while retrying: Pos",
    ),
    "hub-model": ("hub-unreachable", "OSError: We couldn't connect to 'https://huggingface.co' to"),
    "hub-model-offline": (
        "hub-unreachable",
        "OSError: We couldn't connect to 'https://huggingface.co' to",
    ),
    "hub-no-such-model": (
        "no-such-model",
        "OSError: Repo id must be in the form 'repo_name' or 'namespa",
    ),
    "hub-no-such-folder": (
        "no-such-model",
        "OSError: Repo id must be in the form 'repo_name' or 'namespa",
    ),
    "hub-relative-folder": (
        "hub-unreachable",
        "OSError: We couldn't connect to 'https://huggingface.co' to",
    ),
    "hub-deep-folder": (
        "no-such-model",
        "OSError: Repo id must be in the form 'repo_name' or 'namespa",
    ),
    "hub-snapshot": (
        "hub-unreachable",
        "huggingface_hub.errors.LocalEntryNotFoundError: Got: Connect",
    ),
    "hub-empty-folder": (None, "ValueError: Unrecognized model in ./out. Should have a `mode"),
    "datasets-hub": (
        "hub-unreachable",
        "ConnectionError: Couldn't reach 'imdb' on the Hub (LocalEntr",
    ),
    "datasets-no-file": ("missing-path", "FileNotFoundError: Unable to find '/data/train.jsonl'"),
    "torchvision-of-other-torch": (
        "built-for-other-torch",
        "RuntimeError: operator torchvision::nms does not exist",
    ),
    "download-hub": ("no-internet", "RuntimeError: It looks like there is no internet connection"),
    "download-requests": (
        "no-internet",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(hos",
    ),
    "download-pip": (None, "ERROR: No matching distribution found for einops-exts"),
    "download-git": ("no-internet", "fatal: unable to access 'https://github.com/karpathy/nanoGPT"),
    "download-curl": ("no-internet", "curl: (6) Could not resolve host: example.org"),
    "unknown-host": (
        "unknown-name",
        "socket.gaierror: [Errno -3] Temporary failure in name resolu",
    ),
    "refused": ("connection-refused", "ConnectionRefusedError: [Errno 111] Connection refused"),
    "trainer-gpu": ("no-gpus", "lightning.fabric.utilities.exceptions.MisconfigurationExcept"),
    "trainer-cuda": ("no-gpus", "lightning.fabric.utilities.exceptions.MisconfigurationExcept"),
    "trainer-no-checkpoint": (None, "FileNotFoundError: Checkpoint file not found: lightning_logs"),
    "trainer-value": (None, OWN),
    "deepspeed-of-other-torch": (
        "built-for-other-torch",
        "RuntimeError: PyTorch version mismatch! DeepSpeed ops were c",
    ),
    "deepspeed-batch": (
        "batch-size",
        "AssertionError: Check batch related parameters. train_batch_",
    ),
    "deepspeed-no-config": (None, "ValueError: Expected a string path to an existing deepspeed"),
    "jax-no-numbers": ("jax-without-numbers", "ValueError: coordinator_address should be defined."),
    "jax-no-process": ("jax-without-numbers", "ValueError: Number of processes must be defined."),
    "jax-no-gpu": ("no-gpus", "RuntimeError: Unknown backend: 'gpu' requested, but no platf"),
    "jax-cuda": (None, "AssertionError"),
    "jax-nobody-came": ("meeting-timeout", ""),
    "keras-optimizer": ("keras-3", "ImportError: `keras.optimizers.legacy` is not supported in K"),
    "keras-lr": ("keras-3", "ValueError: Argument(s) not recognized: {'lr': 0.1}"),
    "keras-save": ("keras-3", "ValueError: Invalid filepath extension for saving. Please ad"),
    "keras-load": ("keras-3", "ValueError: File format not supported: filepath=saved. Keras"),
    "keras-two-workers": ("keras-3", "ValueError: Attempt to convert a value"),
    "tf-value": (None, "ValueError: Data cardinality is ambiguous. Make sure all arr"),
    "transformers-keras": (
        "transformers-5",
        "ImportError: cannot import name 'TFAutoModel' from 'transfor",
    ),
    "horovod-not-built": (
        "horovod-not-built",
        "ImportError: Extension horovod.tensorflow has not been built",
    ),
    "horovod-peer-gone": (
        "peer-closed",
        "horovod.common.exceptions.HorovodInternalError: Horovod has",
    ),
    "horovod-value": (None, OWN),
    "horovod-shapes": (
        "collective-mismatch",
        "horovod.common.exceptions.HorovodInternalError: Mismatched A",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_real_last_words(name: str) -> None:
    head, _, words = (CORPUS / f"{name}.txt").read_text().partition("\n")
    code = int(head.removeprefix("exit "))
    cause, shown = RIGHT[name]
    found = causes.find(words.encode(), code)
    assert (found.code if found else None) == cause
    state = RunState(failure=Failure("gpu1", "rank-0", 0, code, False, 5.0))
    failure = receipt.first_failure(state, words.encode())
    assert failure is not None
    assert shown in "\n".join(failure.last_lines)


def test_all_of_the_corpus_has_its_answer() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == set(RIGHT)
    assert len(RIGHT) >= 60
