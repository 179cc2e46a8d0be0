r"""Known causes of failure, as a table: recognised by a process's last output and its exit code.

To add one, provoke it with ``tests/last_words/provoke.py``, write a row in ``CAUSES`` and quote its
message in this module's test. Patterns are messages of torch, NCCL, gloo, CUDA, Python and the shell
themselves; a cause without a certain message gets no row.
"""

from __future__ import annotations

import re
import sys

from ..spec.environments import Environment
from ..spec.frozen import frozen
from ..spec.patterns import pattern
from .last_words import essence

#: How many of the last lines are searched when there is no traceback.
LINES = 30

_TRACEBACK = pattern(r"Traceback \(most recent call last\)")
#: The line between two tracebacks of which the first led to the second.
_LED_TO = pattern(
    r"^(During handling of the above exception|The above exception was the direct cause)", re.M
)
#: torch writes this in front of every line of a traceback.
_RANK = pattern(r"^\[rank\d+\]:\s?", re.M)
#: Quoted source and frames of a traceback, also in rich's boxes: the user's code, not an error message.
#: Two lines are kept: where subprocess starts a program, since a missing file means something else
#: there, and a message of multiprocessing that is indented.
_QUOTED = pattern(
    r"^(?:[ \t](?!.*in _execute_child$|\s+An attempt has been made to start a new process)|[│╭╰]).*\n?",
    re.M,
)
#: What Python draws in front of the lines of an exception group.
_GROUPED = pattern(r"^ +(?:\| |\+ (?=Exception Group ))", re.M)


@frozen
class Cause:
    """One known cause. It fits when every condition that it sets holds.

    ``pattern`` is found in the last output; the exit code is among ``exits`` (minus the number of a
    signal); the framework is among ``frameworks``; ``memory`` names why the kernel killed the process:
    the ``host`` ran out of memory, or the ``role`` went over its limit; ``left``: another process had
    exited with 0. ``says`` and ``hint`` may name groups of the pattern.
    """

    code: str
    pattern: str
    says: str
    hint: str
    exits: frozenset[int] = frozenset()
    frameworks: frozenset[str] = frozenset()
    memory: str = ""
    left: bool = False


@frozen
class Found:
    """The cause of one failure, with the pattern's groups filled in."""

    code: str
    says: str
    hint: str


def _of(*exits: int) -> frozenset[int]:
    """Return exit codes; a signal also as a shell in between reports it."""
    return frozenset(exits) | {128 - code for code in exits if code < 0}


_VARIABLE = r"(?P<name>RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT)"
_NO_VARIABLE = (
    rf"^KeyError: '{_VARIABLE}'|environment variable {_VARIABLE.replace('name', 'name2')} expected"
)
#: Modules whose names users give to files of their own, which Python then imports instead.
_LIBRARIES = "|".join(
    sorted(
        {
            *sys.stdlib_module_names,
            *("accelerate", "dask", "datasets", "deepspeed", "evaluate", "horovod", "hydra", "jax"),
            *("keras", "lightning", "mlflow", "mpi4py", "numpy", "optuna", "pandas", "peft", "ray"),
            *("sklearn", "tensorboard", "tensorflow", "tokenizers", "torch", "torchvision"),
            *("transformers", "trl", "wandb"),
        }
    )
)
_INTERFACE = (
    "Set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME in the inventory's env of each host to its "
    "interface that the other hosts reach"
)

_PEER_CLOSED = (
    r"Connection closed by peer|Connection reset by peer|ncclRemoteError|remote process exited"
    r"|[Ss]ocket closed by remote|HorovodInternalError"
    r"|DistNetworkError.*(?:Broken pipe|got 0 bytes\. Connection was likely closed)"
)

#: The first row that fits is taken, so specific and certain causes come before general ones.
CAUSES: tuple[Cause, ...] = (
    # -- memory
    Cause(
        "role-out-of-memory",
        "",
        "it needed more memory than the job file gives its role",
        "Raise resources: memory: of the role, or use fewer DataLoader workers.",
        memory="role",
    ),
    Cause(
        "host-out-of-memory",
        "",
        "the host ran out of memory and its kernel killed the process",
        "Use fewer DataLoader workers or processes a host, or load less of the data at once.",
        memory="host",
    ),
    Cause(
        "cuda-out-of-memory",
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "the GPU has not enough free memory",
        "Use a smaller batch, or look for other users of this GPU with nvidia-smi on the host.",
    ),
    Cause(
        "shared-memory",
        r"insufficient shared memory \(shm\)|out of shared memory"
        r"|DataLoader worker .*killed by signal: Bus error"
        r"|unable to (?:write to|allocate|resize) .*shared memory|shm_open.*No space left"
        r"|unable to open shared memory object .*No space left",
        "shared memory (/dev/shm) is full",
        "Make /dev/shm of the host larger (mount -o remount,size=16G /dev/shm), or use num_workers=0.",
    ),
    Cause(
        "cannot-fork",
        r"fork: retry|BlockingIOError: \[Errno 11\] Resource temporarily unavailable"
        r"|RuntimeError: can't start new thread|pthread_create failed|libgomp: Thread creation failed",
        "the user has reached the limit of processes and threads on the host",
        "Raise `ulimit -u` on the host, or use fewer DataLoader workers and OMP_NUM_THREADS=1.",
    ),
    Cause(
        "host-allocation",
        r"^MemoryError\b|DefaultCPUAllocator: (?:can't|not enough memory)"
        r"|Cannot allocate memory|numpy\S*ArrayMemoryError",
        "the host has too little memory for what the process tried to allocate",
        "Load less of the data at once, or use fewer DataLoader workers and processes a host.",
    ),
    # -- what a framework needs on a host
    Cause(
        "no-horovod",
        r"No module named 'horovod'",
        "the host's Python has no Horovod",
        "Run `launcher bootstrap --with horovod` to build it for the host's torch, or set python: in "
        "the inventory to a Python that has it.",
    ),
    Cause(
        "no-open-mpi",
        r"\b(?P<name>mpirun|orted): (?:command )?not found",
        "the host has no {name}",
        "Install Open MPI on every host: apt install openmpi-bin.",
    ),
    # -- GPUs and their driver
    Cause(
        "gpu-hardware",
        r"uncorrectable ECC error|NVRM: Xid|\bXid \(PCI|GPU has fallen off the bus"
        r"|CUDA error: (?:unspecified launch failure.*Xid|hardware stack error)",
        "the GPU reported a hardware error",
        "Exclude this GPU (gpus: in the inventory) and have it reset: see `dmesg | grep Xid`.",
    ),
    Cause(
        "driver-too-old",
        r"CUDA driver version is insufficient|NVIDIA driver on your system is too old"
        r"|forward compatibility was attempted on non supported HW",
        "the NVIDIA driver of the host is older than this torch needs",
        "Update the driver, or install a torch built for the CUDA version that nvidia-smi shows.",
    ),
    Cause(
        "driver-mismatch",
        r"Driver/library version mismatch",
        "the NVIDIA driver was updated while its old kernel module is loaded",
        "Reboot the host, or reload its nvidia kernel modules.",
    ),
    Cause(
        "no-kernel-image",
        r"no kernel image is available",
        "this torch was not built for the GPU's architecture",
        "Install a torch whose torch.cuda.get_arch_list() contains the GPU's architecture.",
    ),
    Cause(
        "invalid-device",
        r"invalid device ordinal|Invalid device id",
        "the script uses a GPU number that the rank does not have",
        "Use device LOCAL_RANK, and start at most one rank per GPU.",
    ),
    Cause(
        "checkpoint-of-gpu",
        r"Attempting to deserialize object on a CUDA device but torch\.cuda\.is_available\(\) is False",
        "the checkpoint holds tensors of a GPU, and torch sees none on the host",
        "Pass map_location='cpu' to torch.load, or request GPUs with --gpus.",
    ),
    Cause(
        "no-gpus",
        r"ProcessGroupNCCL is only supported with GPUs|[Nn]o CUDA GPUs are available"
        r"|Found no NVIDIA driver|no CUDA-capable device is detected"
        r"|CUDAAccelerator` can not run on your system|No supported gpu backend found"
        r"|mixed precision requires a GPU|Your setup doesn't support bf16/gpu"
        r"|Unknown backend:? '?(?:gpu|cuda)'? requested|Unable to initialize backend 'cuda'",
        "the framework sees no GPU on the host",
        "Check nvidia-smi on the host, request GPUs with --gpus, or use the gloo backend.",
    ),
    Cause(
        "torch-without-cuda",
        r"Torch not compiled with CUDA enabled"
        r"|module 'torch\._C' has no attribute '_cuda_\w+'",
        "the host's torch is a CPU build",
        "Install a CUDA build of torch into the host's Python (python: in the inventory).",
    ),
    Cause(
        "backend-not-built",
        r"Distributed package doesn't have (?P<name>\w+) built in"
        r"|Distributed package doesn't include",
        "this torch was built without the backend that the script uses",
        "Use the gloo backend, or install a torch that has this backend on the host.",
    ),
    # -- rendezvous and network
    Cause(
        "no-such-interface",
        r"Bootstrap : no socket interface found|Unable to find (?:address|interface) for: ?(?P<name>\S*)"
        r"|ifa != nullptr|rv != -1\b.*Unable to find",
        "the network interface that NCCL or gloo is set to use does not exist on the host",
        f"{_INTERFACE}.",
    ),
    Cause(
        "gloo-ip-version",
        r"ss1\.ss_family == ss2\.ss_family",
        "gloo used IPv4 on some hosts and IPv6 on others: it takes IPv4 where an interface has both",
        "Give all hosts IPv4 addresses, choose hosts without any with --hosts, or use NCCL.",
    ),
    Cause(
        "port-taken",
        r"EADDRINUSE|[Aa]ddress already in use|No address added out of total \d+ resolved"
        r"|my_node_\.port != -1 .*bind failed",
        "a port that the program listens on is already in use",
        "Stop what uses it (`ss -ltnp` on the host), or give the program another port.",
    ),
    Cause(
        "unused-parameters",
        r"Expected to have finished reduction in the prior iteration",
        "a parameter of the DDP model took no part in the loss",
        "Pass find_unused_parameters=True to DistributedDataParallel, or use every parameter.",
    ),
    Cause(
        "mpi-as-root",
        r"(?:mpirun|mpiexec|prterun) has detected an attempt to run as root",
        "Open MPI refuses to run as root",
        "Pass -e OMPI_ALLOW_RUN_AS_ROOT=1 -e OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or log in as another "
        "user.",
    ),
    Cause(
        "mpi-unreachable",
        r"MPI_INIT has failed because at least one MPI process is unreachable",
        "MPI processes have no network on which they reach each other",
        "Use --framework mpi, which names each host's interface, or pass --mca btl_tcp_if_include to "
        "mpirun.",
    ),
    Cause(
        "mpi-by-srun",
        r'appears to have been direct launched using "srun"',
        "Open MPI takes it for a task of srun, and ours has no PMI by which its ranks would meet",
        "Write mpirun in place of srun into the batch script: it starts ranks on all hosts. Without a "
        "script, --framework mpi does.",
    ),
    Cause(
        "mpi-no-slots",
        r"There are not enough slots available in the system",
        "mpirun was asked for more ranks than the hosts have slots",
        "Use --framework mpi, which counts them, or pass --oversubscribe to mpirun.",
    ),
    Cause(
        "collective-mismatch",
        r"Detected mismatch between collectives|Collectives differ in the following aspects"
        r"|HorovodInternalError: Mismatched ",
        "ranks called different collectives",
        "Let every rank call the same collectives in the same order, with the same shapes.",
    ),
    Cause(
        "collective-timeout",
        r"Watchdog caught collective operation timeout|collective operation timeout: WorkNCCL"
        r"|monitoredBarrier|Timed out waiting \d+ms for (?:recv|send) operation",
        "a collective timed out waiting for another rank",
        "Look for a rank that hangs or took another branch: "
        "rerun with TORCH_DISTRIBUTED_DEBUG=DETAIL.",
    ),
    Cause(
        "meeting-timeout",
        r"client socket has timed out|[Ww]ait timeout after \d+ ?(?:ms|seconds)|RendezvousTimeoutError"
        r"|DistStoreError: Timed out"
        r"|DEADLINE_EXCEEDED(?s:.{0,200})CoordinationService/RegisterTask"
        r"|DistNetworkError.*(?:timed out|Connection refused)"
        r"|client socket has failed to connect to any network address",
        "the ranks did not all meet in time",
        "Check whether a rank is late or never called init_process_group, "
        "and whether a firewall drops MASTER_PORT.",
    ),
    Cause(
        "peer-left",
        _PEER_CLOSED,
        "another rank had left, with exit code 0, while this one still needed it",
        "Let all ranks wait before one leaves: torch.distributed.barrier() at the end of the script.",
        left=True,
    ),
    Cause(
        "peer-closed",
        _PEER_CLOSED,
        "another rank exited first; this failure is a consequence",
        "Look for the first failure at the end of the other ranks' logs.",
    ),
    Cause(
        "nccl-network",
        r"ncclSystemError|unhandled system error|[Nn]o route to host|Network is unreachable"
        r"|NET/Socket : .*(?:failed|error)",
        "NCCL or gloo cannot reach another host",
        f"{_INTERFACE}; NCCL_DEBUG=INFO shows what it tries.",
    ),
    Cause(
        "own-name-is-loopback",
        r"pair\.cc:\d+\] connect \[127\.[\d.]+\]:\d+: Connection refused",
        "Horovod used the address of the host's own name, which resolves to loopback",
        "Set own_hosts: true in the inventory, or map the name to the host's real address in its "
        "/etc/hosts, or build Horovod there with "
        "`launcher bootstrap --with horovod`.",
        frameworks=frozenset({"horovod", "horovod-direct"}),
    ),
    Cause(
        "gloo-did-not-meet",
        r"Gloo context initialization failed",
        "JAX on CPUs told the others an address of the host's own name at which nobody reaches it",
        "If `launcher check` says NET-LOOPBACK-NAME, set own_hosts: true in the inventory.",
        frameworks=frozenset({"jax"}),
    ),
    Cause(
        "no-ray-cluster",
        r"Could not find any running Ray instance",
        "the script wants a Ray cluster, and none runs on the host",
        "Start the script with --framework ray, which starts one over the hosts of the run.",
    ),
    Cause(
        "connection-refused",
        r"^\S*ConnectionRefusedError|Connection refused",
        "nothing listens at the address that the program connects to",
        "Use the address in MASTER_ADDR and MASTER_PORT, and check that its server is still alive.",
    ),
    Cause(
        "nccl-cuda",
        r"ncclUnhandledCudaError|NCCL error .*unhandled cuda error",
        "NCCL failed in a CUDA call",
        "Rerun with NCCL_DEBUG=INFO; let each rank call torch.cuda.set_device(LOCAL_RANK).",
    ),
    # -- Python, its modules and the command line
    Cause(
        "batch-size",
        r"train_batch_size is not equal to micro_batch_per_gpu \* gradient_acc_step \* world_size",
        "the batch sizes of the DeepSpeed config do not fit the number of ranks",
        "Leave train_batch_size out of the config: DeepSpeed then computes it from the others.",
    ),
    Cause(
        "keras-3",
        r"Keras 3, but this is not yet supported in Transformers"
        r"|`?keras\.optimizers\.legacy`? is not supported in Keras 3|Keras 3 only supports V3 `\.keras`"
        r"|^ValueError: Invalid filepath extension for saving\. Please add either a `\.keras`"
        r"|^ValueError: Attempt to convert a value \(PerReplica:"
        r"|^ValueError: Argument\(s\) not recognized: \{'(?:lr|decay)'",
        "the script is written for Keras 2, and the host has Keras 3",
        "Install tf_keras on the host and pass -e TF_USE_LEGACY_KERAS=1.",
    ),
    Cause(
        "transformers-5",
        r"^ImportError: cannot import name '(?:TF|Flax)\w+' from 'transformers'",
        "the script uses models of TensorFlow or Flax, which Transformers 5 no longer has",
        "Install transformers below 5 in the job's setup:.",
    ),
    Cause(
        "jax-without-numbers",
        r"^ValueError: (?:Number of processes must|coordinator_address should) be defined",
        "jax.distributed.initialize() does not find the other processes",
        "Start it with --framework slurm, whose variables it reads, or pass coordinator_address, "
        "num_processes and process_id.",
    ),
    Cause(
        "own-name",
        rf"partially initialized module '(?P<name>{_LIBRARIES})' .*circular import\)"
        r"|consider renaming '\S*?(?P<name2>\w+)\.py' since it has the same name as",
        "a file or folder beside the script is called {name} and is imported in place of the module",
        "Give {name}.py (or the folder {name}/) another name.",
    ),
    Cause(
        "no-main-guard",
        r"An attempt has been made to start a new process before the",
        "the script starts processes while they import it",
        "Put what the script does under if __name__ == '__main__':.",
    ),
    Cause(
        "built-for-other-torch",
        r"operator (?P<name>torchvision)::\w+ does not exist"
        r"|PyTorch version mismatch! (?P<name2>DeepSpeed) ops were compiled",
        "the host's {name} was built for another torch",
        "Install torch and {name} together, from the same index.",
    ),
    Cause(
        "other-pythonhome",  # what a Python prints that finds nothing of its own
        r"^\s+PYTHONHOME = '(?P<name>[^']+)'$",
        "PYTHONHOME names {name}, where this Python is not",
        "A module, prepare: or env: sets it: `unset PYTHONHOME` in the job's prepare:.",
    ),
    # Python names a package alone if that is what it lacks.
    Cause(
        "missing-submodule",
        r"^ModuleNotFoundError: No module named '(?P<name>\w+\.[\w.]+)'$",
        "the host has the package, but no module {name} in it",
        "Another version of the package has it: compare pip show here and there. If the package is "
        "yours, git may ignore that file: --include PATH.",
    ),
    Cause(
        "missing-module",
        r"^ModuleNotFoundError: No module named '(?P<name>[^']+)'"
        r"|^/\S+: (?:Error while finding module .*)?No module named '?(?P<name2>[\w.]+)",
        "the host's Python has no module {name}",
        "Install it in the job's setup:, or set python: in the inventory to a Python that has it.",
    ),
    Cause(
        "missing-library",
        r"^(?:ImportError|OSError): (?P<name>lib\S+): cannot open shared object file"
        r"|error while loading shared libraries: (?P<name2>\S+):",
        "the host lacks the library {name}",
        "Install {name} on the host, or put its folder into LD_LIBRARY_PATH in the inventory's env.",
    ),
    Cause(
        "node-rank-only",
        _NO_VARIABLE,
        "under --framework env ranks do not get {name}",
        "Start the script with --framework torchrun or torch, which set {name} for every rank.",
        frameworks=frozenset({"env"}),
    ),
    Cause(
        "missing-variable",
        _NO_VARIABLE,
        "the script wants the variable {name}, which is not set",
        "Start the script itself with --framework torchrun or torch, and do not clear its environment.",
    ),
    Cause(
        "local-rank-argument",
        r"error: unrecognized arguments:.* --local[-_]rank=",
        "the framework's launcher hands the script --local_rank, which it does not know",
        "Start it with torchrun and read LOCAL_RANK, or add the argument to the script.",
    ),
    Cause(
        "unknown-argument",
        r"error: unrecognized arguments: (?P<name>.+)|^Error: No such option:? '?(?P<name2>-[\w-]+)"
        r"|arguments are not used by the HfArgumentParser: \[(?P<name3>.+)\]",
        "the script does not know {name}",
        "Put options of launcher before the script, and those of the script behind it.",
    ),
    Cause(
        "horovod-not-built",
        r"Extension horovod\.(?P<name>\w+) has not been built",
        "the horovod of the host was built without {name}",
        "Install it again after {name}, with HOROVOD_WITH_{upper}=1.",
    ),
    # -- files
    Cause(
        "dos-lines",
        r"\^M: bad interpreter|^\S+: line \d+: .*\$'[^'\n]*\\r'|^/usr/bin/env: .*\\r",
        "the script has the line ends of Windows",
        "Convert it: sed -i 's/\\r$//' on the file.",
    ),
    Cause(
        "no-interpreter",
        r"cannot execute: required file not found|: bad interpreter: No such file",
        "the host lacks the program in the script's #! line, or the line ends as on Windows",
        "Name a program that every host has, as #!/usr/bin/env python3; for line ends, sed -i "
        "'s/\\r$//'.",
    ),
    Cause(
        "disk-full",
        r"No space left on device|Disk quota exceeded",
        "a disk of the host, or the user's quota there, is full",
        "Free space on the host (df -h, quota), or write to another disk.",
    ),
    Cause(
        "checkpoint-not-written",
        r"inline_container\.cc:\d+\] ?\. unexpected pos|PytorchStreamWriter failed writing file",
        "a checkpoint could not be written whole, most often because a disk or the user's quota is full",
        "Free space on the host (df -h, quota), or write to another disk.",
    ),
    Cause(
        "too-many-files",
        r"[Tt]oo many open files|received 0 items of ancdata",
        "the process has reached its limit of open files",
        "Raise `ulimit -n` in the job, "
        "or call torch.multiprocessing.set_sharing_strategy('file_system').",
    ),
    Cause(
        "read-only",
        r"Read-only file system|^PermissionError: \[Errno 13\] Permission denied: .*/code/",
        "the script writes to the copy of the code, which is read-only",
        "Write under $LAUNCHER_OUTPUT_DIR.",
    ),
    Cause(
        "program-not-executable",
        r"in _execute_child\n+PermissionError: \[Errno 13\] Permission denied: '(?P<name>[^']+)'",
        "the script starts {name}, which may not be executed",
        "Make the file executable (chmod +x) here: its mode travels with it.",
    ),
    Cause(
        "no-such-program",
        r"in _execute_child\n+FileNotFoundError: \[Errno 2\] No such file.*: '(?P<name>[^/']+)'"
        r"|mpirun was unable to find the specified executable file(?s:.*)\nExecutable: (?P<name2>\S+)",
        "the host has no command {name}",
        "Install it in the job's setup:, or set PATH in the inventory's env.",
    ),
    Cause(
        "no-permission",
        r"^PermissionError: \[Errno 13\] Permission denied: (?P<name>.+)",
        "the user may not open {name}, or it belongs to the read-only copy of the code",
        "Write under $LAUNCHER_OUTPUT_DIR, or give the user access to the file.",
    ),
    Cause(
        "weights-only",
        r"Weights only load failed\. This file can still be loaded",
        "torch.load reads plain tensors alone since torch 2.6 (weights_only), and the file holds more",
        "If you trust the file, pass -e TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1, or weights_only=False to "
        "torch.load.",
    ),
    Cause(
        "not-a-checkpoint",
        r"invalid load key, '[<v]'|^Unsupported operand (?:60|118)\b",
        "the file is text in place of a checkpoint, as a web page or a pointer of Git LFS",
        "Look at it with `head -c 200`, and fetch it again (`git lfs pull`).",
    ),
    Cause(
        "broken-checkpoint",
        r"UnpicklingError(?!: Weights only)|^EOFError: Ran out of input|PytorchStreamReader failed"
        r"|failed finding central directory|BadZipFile"
        r"|SafetensorError: Error while deserializing header",
        "a checkpoint or data file is truncated or damaged",
        "Use an older checkpoint; write new ones under a temporary name and rename them when complete.",
    ),
    Cause(
        "no-tracker-key",
        r"^wandb\.errors\.\S*: (?:No API key configured|api_key not configured)",
        "Weights & Biases has no API key on the host",
        "Pass yours with --secret WANDB_API_KEY, or record without a network: -e WANDB_MODE=offline.",
    ),
    Cause(
        "no-comet-key",
        r"^ValueError: Comet\.ml requires an API key",
        "Comet has no API key on the host",
        "Pass yours with --secret COMET_API_KEY, or record without a network: "
        "comet_ml.OfflineExperiment.",
    ),
    Cause(
        "no-neptune-token",
        r"^neptune\.\S*NeptuneMissingApiTokenException:",
        "Neptune has no API token on the host",
        "Pass yours with --secret NEPTUNE_API_TOKEN, or record without a network: "
        "-e NEPTUNE_MODE=offline.",
    ),
    Cause(
        "no-clearml-key",
        r"^clearml\.\S*MissingConfigError:",
        "ClearML has no server and no keys on the host",
        "Pass them: -e CLEARML_API_HOST=URL --secret CLEARML_API_ACCESS_KEY --secret "
        "CLEARML_API_SECRET_KEY; or record without a network: -e CLEARML_OFFLINE_MODE=1.",
    ),
    Cause(
        "tracker-unreachable",
        r"^wandb\.errors\.\S*CommError: .*(?:dial tcp|[Tt]imed out|no such host)",
        "the host cannot reach Weights & Biases",
        "Set https_proxy in the inventory's env, or record without a network: -e WANDB_MODE=offline.",
    ),
    Cause(
        "hub-gated",
        r"^\S*GatedRepoError: 401|^OSError: You are trying to access a gated repo\.\n.*\n401"
        r"|is a gated dataset on the Hub\. You must be authenticated|^\S*LocalTokenNotFoundError:",
        "Hugging Face gives it to accounts with access alone, and the host has no token of one",
        "Pass yours with --secret HF_TOKEN.",
    ),
    Cause(
        "hub-not-granted",
        r"^\S*GatedRepoError: 403|^OSError: You are trying to access a gated repo\.\n.*\n403"
        r"|is a gated dataset on the Hub\. Visit the dataset page",
        "the account of the token has no access to it on Hugging Face",
        "Ask for access on its page there, with the account of the HF_TOKEN that the run has.",
    ),
    Cause(
        "hub-not-found",
        r"^\S*RepositoryNotFoundError: 40\d|is not a local folder and is not a valid model identifier"
        r"|^\S*DatasetNotFoundError: Dataset '.*' doesn't exist on the Hub or cannot be accessed",
        "Hugging Face has none of that name, or hides a private one from a host without a token",
        "Check the name; for a private one pass your token with --secret HF_TOKEN.",
    ),
    Cause(
        "no-such-model",
        r"Repo id must (?:be in the form|use alphanumeric).*?'(?P<name>[./~][^']*|[^'/]+/[^'/]+/[^']+)'",
        "there is no {name} on the host, so that Hugging Face takes it for a name of its Hub",
        "Put the model into the folder of the code, or on every host and under needs: in the job file.",
    ),
    Cause(
        "hub-unreachable",
        r"We couldn't connect to '?https://huggingface\.co"
        r"|^ConnectionError: Couldn't reach .* on the Hub"
        r"|^\S*(?:LocalEntryNotFoundError|OfflineModeIsEnabled)\b",
        "the host cannot reach the Hugging Face Hub and has no copy of the files",
        "Set https_proxy in the inventory's env, or put the model into the folder of the code and pass "
        "its path.",
    ),
    Cause(
        "no-internet",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|Could not resolve host"
        r"|ProxyError|Max retries exceeded with url"
        r"|^(?:urllib\.error\.)?URLError:|Failed to establish a new connection"
        r"|^(?!socket\.gaierror).*(?:Temporary failure in name resolution|Name or service not known)",
        "a download failed: the host cannot reach the address, or does not trust its certificate",
        "Set https_proxy in the inventory's env, or ship the files with the code and set "
        "HF_HUB_OFFLINE=1.",
    ),
    Cause(
        "unknown-name",
        r"^socket\.gaierror: \[Errno -[235]\]",
        "the host cannot resolve a name that the program uses: another host's, or its own",
        "Use addresses, such as MASTER_ADDR, or add the name to /etc/hosts of every host.",
    ),
    # -- files
    Cause(
        "missing-path",
        r"^FileNotFoundError: \[Errno 2\] .*: '(?P<name>/(?!.*/runs/[^/']+/code/)[^']+)'$"
        r"|^FileNotFoundError: Unable to find '(?P<name2>/[^']+)'$",
        "this host has no {name}",
        "With `needs: [{name}]` a job uses hosts that have it; launcher push DIR --to PATH copies data "
        "to hosts.",
    ),
    # -- the exit alone
    Cause(
        "not-executable",
        r"",
        "the command may not be executed",
        "Make the file executable (chmod +x), give it a #! line, or start it with its interpreter.",
        exits=_of(126),
    ),
    Cause(
        "image-removed",
        r"^Error: .*: image not known$|Error response from daemon: No such image:",
        "the image was there when the host was asked, and is not any more",
        "It was removed, or podman looks elsewhere now: start again, and the host is asked anew.",
        exits=_of(125),
    ),
    Cause(
        "image-lacks-program",  # in the words of three shells, which may be the sh of an image
        r"^launcher: (?:line )?\d+: (?P<name>[^:\s]+): (?:command )?not found$",
        "the image has no {name}",
        "Name a program that it has, or take another image. setup:, prepare: and shell scripts need "
        "bash there; Python scripts, python3 on the image's PATH.",
        exits=_of(127),
    ),
    Cause(
        "command-not-found",
        r"",
        "the command does not exist on the host",
        "Install it in the job's setup:, give its full path, or set PATH in the inventory's env.",
        exits=_of(127),
    ),
    Cause(
        "abort-at-exit",
        r"terminate called .*(?:gloo|c10)|gloo::(?:EnforceNotMet|IoException)|ProcessGroup",
        "the process group was still open when the process ended",
        "Call torch.distributed.destroy_process_group() at the end of the script, on every rank.",
        exits=_of(-6),
    ),
    Cause(
        "thread-at-exit",
        r"terminate called without an active exception",
        "a thread of a library was still running when the process ended",
        "With gloo, drop the model and optimizer (del, then gc.collect()) and call torch.distributed."
        "destroy_process_group() at the end of the script, on every rank.",
        exits=_of(-6, 1),  # 1 is a torchrun's, whose rank it was
    ),
    Cause(
        "killed",
        r"",
        "something outside launcher killed it; the kernel counted no out-of-memory kill",
        "Ask the host's other users, and check the limits of its control groups "
        "(`journalctl -k`, systemd-oomd).",
        exits=_of(-9),
    ),
    Cause(
        "segfault",
        r"",
        "native code crashed",
        "Rerun with PYTHONFAULTHANDLER=1 to see where, "
        "and check that extensions were built for this torch.",
        exits=_of(-11),
    ),
    Cause(
        "bus-error",
        r"",
        "a mapped file or shared memory could not be read or written",
        "Check for a full /dev/shm or disk on the host, and for data files that shrank while in use.",
        exits=_of(-7),
    ),
    Cause(
        "illegal-instruction",
        r"",
        "a program or library was built for another processor",
        "Install the packages on the host itself, or build them without -march=native.",
        exits=_of(-4),
    ),
)


#: By code, of a process in an image, and of one in an environment that hosts build: what it lacks is not
#: the host's, and what is installed in setup: would be lost, or be in the way of other runs.
_IN_IMAGE = {
    "missing-module": (
        "the image has no module {name}",
        "Take an image that has it, or add it in the Dockerfile of this one.",
    ),
    "missing-library": (
        "the image lacks the library {name}",
        "Take an image that has it, or add it in the Dockerfile of this one.",
    ),
    "command-not-found": (
        "the command does not exist in the image",
        "Name a program that it has, or take another image.",
    ),
}
_IN_BUILT = {
    "missing-module": (
        "the {environment} has no module {name}",
        "Add its package to what {recipe} asks for, and to the lock if there is one: hosts build it "
        "anew then.",
    ),
}


def find(
    output: bytes,
    code: int,
    memory: str = "",
    framework: str = "",
    left: bool = False,
    environment: Environment | None = None,
) -> Found | None:
    """Return the probable cause of an exit after this last output; None when none is known.

    ``environment`` is that of the process, if it has one.
    """
    texts = _relevant(output)
    for cause in CAUSES:
        if cause.exits and code not in cause.exits:
            continue
        if cause.frameworks and framework not in cause.frameworks:
            continue
        if (cause.memory and cause.memory != memory) or (cause.left and not left):
            continue
        for text in texts:
            if match := re.search(cause.pattern, text, re.M):
                return _fitted(cause, match, environment or Environment())
    return None


def _fitted(cause: Cause, match: re.Match[str], environment: Environment) -> Found:
    groups = {name[:4]: text for name, text in match.groupdict().items() if text}
    name = " ".join(groups.get("name", "").split())[:60]
    known = {"name": name, "upper": {"torch": "PYTORCH"}.get(name, name.upper())}
    known |= {"environment": str(environment), "recipe": environment.recipe}
    table = _IN_IMAGE if environment.image else _IN_BUILT if environment.recipe else {}
    says, hint = table.get(cause.code, (cause.says, cause.hint))
    return Found(cause.code, says.format_map(known), hint.format_map(known))


def _relevant(output: bytes) -> list[str]:
    """Return the last traceback without its quoted source, and those that led to it; else the last
    lines.

    A warning before the traceback is no cause: the library that wrote it has tried again.
    """
    whole = output.decode("utf-8", "replace").replace("\r\n", "\n")
    text = _GROUPED.sub("", _RANK.sub("", essence(whole)))
    starts = [match.start() for match in _TRACEBACK.finditer(text)]
    if not starts:
        return ["\n".join(text.splitlines()[-LINES:])]
    ends = [*starts[1:], len(text)]
    blocks = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    chain = [blocks.pop()]
    while blocks and _LED_TO.search(blocks[-1]):
        chain.append(blocks.pop())
    return [_QUOTED.sub("", block) for block in chain]
