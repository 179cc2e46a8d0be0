"""Known causes of failure: each by the words that users really see, and what is not a cause."""

from __future__ import annotations

import pytest

from launcher.records import causes
from launcher.spec.environments import Environment

TRACE = b'Traceback (most recent call last):\n  File "train.py", line 7, in <module>\n    main()\n'

CASES = [
    ("role-out-of-memory", 137, b""),
    ("host-out-of-memory", -9, b""),
    ("cuda-out-of-memory", 1, b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"),
    ("shared-memory", 1, b"ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm)."),
    ("shared-memory", 1, b"RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."),
    ("cannot-fork", 254, b"train.sh: fork: retry: Resource temporarily unavailable"),
    ("host-allocation", 1, b"RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ("no-horovod", 1, b"/usr/bin/python3: Error while finding module specification for 'horovod.runner.launch' (ModuleNotFoundError: No module named 'horovod')"),
    ("no-open-mpi", 127, b"mpirun: 4: exec: mpirun: not found"),
    ("gpu-hardware", 1, b"RuntimeError: CUDA error: uncorrectable ECC error encountered"),
    ("driver-too-old", 1, b"RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
    ("driver-mismatch", 255, b"Failed to initialize NVML: Driver/library version mismatch"),
    ("no-kernel-image", 1, b"RuntimeError: CUDA error: no kernel image is available for execution on the device"),
    ("invalid-device", 1, b"RuntimeError: CUDA error: invalid device ordinal"),
    ("no-gpus", 1, b"ValueError: ProcessGroupNCCL is only supported with GPUs, no GPUs found!"),
    ("torch-without-cuda", 1, b"AssertionError: Torch not compiled with CUDA enabled"),
    ("backend-not-built", 1, b"RuntimeError: Distributed package doesn't have NCCL built in"),
    ("no-such-interface", 1, b"NCCL WARN Bootstrap : no socket interface found"),
    ("no-such-interface", 1, b"RuntimeError: [/gloo/device.cc:79] ifa != nullptr. Unable to find address for: eth7"),
    ("gloo-ip-version", 1, b"RuntimeError: [enforce fail at third_party/gloo/gloo/transport/tcp/device.cc:285] ss1.ss_family == ss2.ss_family. 2 vs 10"),
    ("port-taken", 1, b"torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"),
    ("collective-mismatch", 1, b"RuntimeError: Detected mismatch between collectives on ranks. Rank 0 is running collective: ..."),
    ("collective-timeout", -6, b"[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE) ran for 600000 milliseconds"),
    ("meeting-timeout", 1, b"torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to connect to (10.0.0.1, 29500)."),
    ("meeting-timeout", -6, b"gloo::IoException: [gloo/http_store.cc:54] Wait timeout after 30 seconds for key(s): 1. You may want to increase the timeout via HOROVOD_GLOO_TIMEOUT_SECONDS"),
    ("port-taken", 1, b"E0000 add_port.cc:83] Failed to add port to server: No address added out of total 1 resolved for '0.0.0.0:22936'"),
    ("port-taken", 1, b"MXNetError: Check failed: my_node_.port != -1 (-1 vs. -1) : bind failed"),
    ("peer-closed", 1, b"RuntimeError: [/gloo/pair.cc:538] Connection closed by peer [10.0.0.2]:41234"),
    ("nccl-network", 1, b"torch.distributed.DistBackendError: NCCL error in: x.cpp:1, unhandled system error, NCCL version 2.21"),
    ("connection-refused", 1, b"ConnectionRefusedError: [Errno 111] Connection refused"),
    ("nccl-cuda", 1, b"ncclUnhandledCudaError: Call to CUDA function failed."),
    ("missing-submodule", 1, b"ModuleNotFoundError: No module named 'einops.layers'"),
    ("missing-path", 1, b"FileNotFoundError: [Errno 2] No such file or directory: '/data/imagenet/train.csv'"),
    ("missing-module", 1, b"/usr/bin/python3: Error while finding module specification for 'torch.distributed.run' (ModuleNotFoundError: No module named 'torch')"),
    ("missing-module", 1, b"/usr/bin/python3: No module named accelerate"),
    ("missing-library", 1, b"ImportError: libGL.so.1: cannot open shared object file: No such file or directory"),
    ("missing-variable", 1, b"KeyError: 'RANK'"),
    ("missing-variable", 1, b"ValueError: Error initializing torch.distributed using env:// rendezvous: environment variable WORLD_SIZE expected, but not set"),
    ("unknown-argument", 2, b"train.py: error: unrecognized arguments: --nodes 2"),
    ("horovod-not-built", 1, b"ImportError: Extension horovod.torch has not been built: x.so not found"),
    ("disk-full", 1, b"OSError: [Errno 28] No space left on device"),
    ("too-many-files", 1, b"OSError: [Errno 24] Too many open files: 'x'"),
    ("read-only", 1, b"OSError: [Errno 30] Read-only file system: 'x'"),
    ("no-permission", 1, b"PermissionError: [Errno 13] Permission denied: 'log.txt'"),
    ("broken-checkpoint", 1, b"_pickle.UnpicklingError: pickle data was truncated"),
    ("broken-checkpoint", 1, b"EOFError: Ran out of input"),
    ("weights-only", 1, b"_pickle.UnpicklingError: Weights only load failed. This file can still be loaded, to do so you have two options, \x1b[1mdo those steps only if you trust the source of the checkpoint\x1b[0m.\n\t(1) In PyTorch 2.6, the default changed.\n\tWeightsUnpickler error: Unsupported global: GLOBAL __main__.A was not an allowed global by default.\n\nCheck the documentation of torch.load."),
    ("not-a-checkpoint", 1, b"_pickle.UnpicklingError: Weights only load failed. In PyTorch 2.6, we changed the default value.\nPlease file an issue with the following: WeightsUnpickler error: \n\nUnsupported operand 60\n"),
    ("not-a-checkpoint", 1, b"_pickle.UnpicklingError: invalid load key, 'v'."),
    ("broken-checkpoint", 1, b"RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory. This is an internal miniz error."),
    ("torch-without-cuda", 1, b"AttributeError: module 'torch._C' has no attribute '_cuda_setDevice'"),
    ("no-tracker-key", 1, b"wandb.errors.errors.UsageError: No API key configured. Use `wandb login` to log in."),
    ("no-tracker-key", 1, b"wandb.errors.UsageError: api_key not configured (no-tty). call wandb.login(key=[your_api_key])"),
    ("no-comet-key", 1, b"ValueError: Comet.ml requires an API key. Please provide as the first argument to Experiment(api_key) or as an environment variable named COMET_API_KEY "),
    ("no-neptune-token", 1, b"neptune.exceptions.NeptuneMissingApiTokenException: "),
    ("no-clearml-key", 1, b"clearml.backend_api.session.defs.MissingConfigError: It seems ClearML is not configured on this machine!"),
    ("hub-gated", 1, b"huggingface_hub.errors.GatedRepoError: 401 Client Error."),
    ("hub-not-granted", 1, b"huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: ViT1Bf7O_026LGSQuVqfa)"),
    ("hub-not-found", 1, b"huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error."),
    ("hub-not-found", 1, b"datasets.exceptions.DatasetNotFoundError: Dataset 'ana/mine' doesn't exist on the Hub or cannot be accessed."),
    ("no-such-model", 1, b"huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/opt/lab/nomodel'. Use `repo_type` argument if needed."),
    ("hub-unreachable", 1, b"OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files."),
    ("hub-unreachable", 1, b"huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder"),
    ("keras-3", 1, b"ValueError: Your currently installed version of Keras is Keras 3, but this is not yet supported in Transformers."),
    ("keras-3", 1, b"ImportError: `keras.optimizers.legacy` is not supported in Keras 3."),
    ("jax-without-numbers", 1, b"ValueError: Number of processes must be defined."),
    ("own-name", 1, b"ImportError: cannot import name 'load_dataset' from partially initialized module 'datasets' (most likely due to a circular import) (/home/ana/proj/datasets.py)"),
    ("no-main-guard", 1, b"RuntimeError: \n        An attempt has been made to start a new process before the\n        current process has finished its bootstrapping phase.\n"),
    ("built-for-other-torch", 1, b"RuntimeError: operator torchvision::nms does not exist"),
    ("checkpoint-of-gpu", 1, b"RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False."),
    ("checkpoint-not-written", 1, b"RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
    ("no-ray-cluster", 1, b"ConnectionError: Could not find any running Ray instance."),
    ("local-rank-argument", 2, b"train.py: error: unrecognized arguments: --local_rank=0"),
    ("unused-parameters", 1, b"RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one."),
    ("batch-size", 1, b"AssertionError: Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * gradient_acc_step * world_size 16 != 3 * 1 * 1"),
    ("mpi-as-root", 1, b"mpirun has detected an attempt to run as root."),
    ("mpi-unreachable", 1, b"MPI_INIT has failed because at least one MPI process is unreachable\nfrom another."),
    ("mpi-by-srun", 1, b'The application appears to have been direct launched using "srun",\nbut OMPI was not built with SLURM'),
    ("mpi-no-slots", 1, b"There are not enough slots available in the system to satisfy the 64\nslots that were requested by the application:"),
    ("dos-lines", 127, b"train.sh: line 2: $'\\r': command not found"),
    ("dos-lines", 126, b"bash: ./train.sh: /bin/bash^M: bad interpreter: No such file or directory"),
    ("no-interpreter", 127, b"bash: line 1: ./train.sh: cannot execute: required file not found"),
    ("program-not-executable", 1, b'Traceback (most recent call last):\n  File "/usr/lib/python3.11/subprocess.py", line 1953, in _execute_child\n    raise x\n' b"PermissionError: [Errno 13] Permission denied: './prepare.sh'"),
    ("no-such-program", 1, b'Traceback (most recent call last):\n  File "/usr/lib/python3.11/subprocess.py", line 1953, in _execute_child\n    raise x\n' b"FileNotFoundError: [Errno 2] No such file or directory: 'nvidia-smi'"),
    ("tracker-unreachable", 1, b"wandb.errors.errors.CommError: Run initialization has timed out after 90.0 sec."),
    ("transformers-5", 1, b"ImportError: cannot import name 'TFAutoModel' from 'transformers' (/venv/lib/python3.11/site-packages/transformers/__init__.py)"),
    ("unknown-name", 1, b"socket.gaierror: [Errno -2] Name or service not known"),
    ("no-internet", 6, b"curl: (6) Could not resolve host: example.org"),
    ("no-internet", 1, b"fatal: unable to access: Temporary failure in name resolution"),
    ("no-internet", 1, b"urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>"),
    ("not-executable", 126, b"launcher: cannot start ./train.sh: Permission denied"),
    ("command-not-found", 127, b"launcher: cannot start trian: command not found on PATH (/usr/bin)"),
    ("image-removed", 125, b"Error: 8ef60c59: image not known"),
    ("image-removed", 125, b"docker: Error response from daemon: No such image: sha256:8ef60c59"),
    ("image-lacks-program", 127, b"launcher: line 9: bash: not found"),
    ("image-lacks-program", 127, b"launcher: 9: python3: not found"),
    ("image-lacks-program", 127, b"launcher: line 9: python3: command not found"),
    ("command-not-found", 127, b"bash: line 1: trian: command not found"),
    ("abort-at-exit", -6, b"terminate called after throwing an instance of 'gloo::IoException'"),
    ("thread-at-exit", -6, b"terminate called without an active exception"),
    ("killed", -9, b"epoch 3"),
    ("killed", 137, b""),
    ("segfault", -11, b""),
    ("bus-error", -7, b""),
    ("illegal-instruction", 132, b""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "words"), CASES)
@pytest.mark.parametrize("before", [b"epoch 1\n", TRACE])
def test_a_cause_is_known_by_its_words(name: str, code: int, words: bytes, before: bytes) -> None:
    memory = name.partition("-")[0] if name.endswith("-out-of-memory") else ""
    found = causes.find(before + words, code, memory)
    assert found is not None
    assert found.code == name
    assert found.says and found.hint.endswith(".")
    assert "{" not in found.says + found.hint


def test_every_row_has_its_case() -> None:
    of_others = {"node-rank-only", "own-name-is-loopback", "gloo-did-not-meet", "peer-left"}
    of_others |= {"other-pythonhome"}
    assert {case[0] for case in CASES} | of_others == {c.code for c in causes.CAUSES}
    assert len({cause.code for cause in causes.CAUSES}) == len(causes.CAUSES)


def test_horovod_that_takes_a_loopback_address() -> None:
    """What an unpatched 0.28.1 says where /etc/hosts maps a host's own name to 127.0.1.1."""
    words = (
        b"terminate called after throwing an instance of 'gloo::IoException'\n  what():  [/tmp/pip/"
        b"gloo/gloo/transport/tcp/pair.cc:799] connect [127.0.1.1]:12207: Connection refused\n"
    )
    for framework, name in (("horovod", "own-name-is-loopback"), ("torch", "connection-refused")):
        found = causes.find(words, -6, framework=framework)
        assert found is not None
        assert found.code == name


def test_jax_that_takes_a_loopback_address() -> None:
    """What JAX 0.10.2 says on CPUs, 150 s after its start."""
    words = TRACE + (
        b"jax.errors.JaxRuntimeError: UNKNOWN: Gloo context initialization failed: "
        b"[external/gloo/gloo/transport/tcp/pair.h:311] Connect timeout [none]\n"
    )
    found = causes.find(words, 1, framework="jax")
    assert found is not None
    assert found.code == "gloo-did-not-meet"
    assert "own_hosts: true" in found.hint


UNKNOWN = [
    (1, TRACE + b"RuntimeError: loss is NaN in step 7\n"),
    (7, b"giving up\n"),
    (1, TRACE + b"KeyError: 'image'\n"),
    (2, b"usage: train.py [-h]\ntrain.py: error: argument --lr: invalid float value: 'x'\n"),
    (1, TRACE + b"ValueError: shapes (2,3) and (4,) not aligned\n"),
    (1, TRACE + b"TimeoutError: the data server timed out\n"),
    (1, TRACE + b"FileNotFoundError: [Errno 2] No such file or directory: 'data/train.csv'\n"),
    (1, TRACE + b"FileNotFoundError: [Errno 2] No such file or directory: '/root/.launcher/host/runs/x-1/code/a.csv'\n"),
    (1, b"[W] The client socket has failed to connect: Connection refused\n" + TRACE + b"AssertionError\n"),
    (1, TRACE.replace(b"main()", b"raise Bad('x')  # CUDA out of memory") + b"Bad: x\n"),
    (1, b"No space left on device\n" + b"a line\n" * 40),
    (1, TRACE + b"_pickle.UnpicklingError: Weights only load failed. In PyTorch 2.6, we changed the default value.\nPlease file an issue: WeightsUnpickler error: \n\nUnsupported operand 149\n"),
    (1, TRACE + b"EOFError\n"),
    (1, TRACE + b"huggingface_hub.errors.HFValidationError: Repo id must use alphanumeric chars: 'my model'\n"),
    (1, TRACE + b"AttributeError: module 'torch._C' has no attribute 'nothing'\n"),
    (1, TRACE + b"ValueError: Number of processes must be positive\n"),
    (1, TRACE + b"keras.errors.Invalid: this layer is new in Keras 3\n"),
    (-15, b""),
    (1, b""),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words"), UNKNOWN)
def test_a_users_own_bug_has_no_known_cause(code: int, words: bytes) -> None:
    """Nor has one that follows a warning which was got over, or that quotes such words."""
    assert causes.find(words, code) is None


def test_names_are_told() -> None:
    found = causes.find(
        b"[rank3]: " + TRACE + b"[rank3]: ModuleNotFoundError: No module named 'x.y'", 1
    )
    assert found is not None and "no module x.y" in found.says
    found = causes.find(b"ImportError: Extension horovod.torch has not been built: x", 1)
    assert found is not None and "HOROVOD_WITH_PYTORCH=1" in found.hint
    found = causes.find(b"error while loading shared libraries: libmpi.so.40: cannot open", 127)
    assert found is not None and "libmpi.so.40" in found.says


@pytest.mark.parametrize(
    ("environment", "says", "hint"),
    [
        (Environment(image="lab/x:1"), "the image has no module einops", "Dockerfile"),
        (
            Environment(uv="."),
            "the environment built from . has no module einops",
            "what . asks for",
        ),
        (
            Environment(conda="environment.yml"),
            "built from environment.yml has no",
            "environment.yml",
        ),
        (Environment(venv="~/v"), "the host's Python has no module einops", "setup:"),
        (None, "the host's Python has no module einops", "setup:"),
    ],
)
def test_what_an_image_or_a_built_environment_lacks_is_not_the_hosts(
    environment: Environment | None, says: str, hint: str
) -> None:
    words = TRACE + b"ModuleNotFoundError: No module named 'einops'"
    found = causes.find(words, 1, environment=environment)
    assert found is not None
    assert found.code == "missing-module"
    assert says in found.says
    assert hint in found.hint


def test_a_program_that_an_image_lacks_is_not_looked_for_on_the_host() -> None:
    found = causes.find(b"train.sh: 3: nvcc: not found", 127, environment=Environment(image="x"))
    assert found is not None
    assert (found.code, found.says) == (
        "command-not-found",
        "the command does not exist in the image",
    )


def test_the_framework_decides_what_to_do_about_a_missing_variable() -> None:
    found = causes.find(TRACE + b"KeyError: 'LOCAL_RANK'", 1, framework="env")
    assert found is not None and found.code == "node-rank-only"
    assert "LOCAL_RANK" in found.hint


def test_what_led_to_the_last_traceback_counts_and_what_did_not_does_not() -> None:
    root = TRACE + b"OSError: [Errno 28] No space left on device\n"
    end = TRACE + b"RuntimeError: cannot save\n"
    led = b"\nThe above exception was the direct cause of the following exception:\n\n"
    found = causes.find(root + led + end, 1)
    assert found is not None and found.code == "disk-full"
    assert causes.find(root + b"going on\n" + end, 1) is None


def test_a_python_that_finds_nothing_of_its_own_says_where_it_was_sent() -> None:
    said = b"Python path configuration:\n  PYTHONHOME = '/nowhere'\n  PYTHONPATH = (not set)\n"
    fatal = b"Fatal Python error: init_fs_encoding: failed to get the Python codec\n"
    found = causes.find(said + fatal + b"ModuleNotFoundError: No module named 'encodings'\n", 1)
    assert found
    assert (found.code, "/nowhere" in found.says) == ("other-pythonhome", True)
