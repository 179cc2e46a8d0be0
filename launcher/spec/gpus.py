"""What GPUs are called: by their vendor's tool, by the variables that programs read, and by people.

A GPU has its index in the vendor's tool. A MIG instance is a GPU of its own, whose index names its
parent: instance 3 of GPU 1 is 1013 in records and ``1:3`` for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from .frozen import frozen
from .nodeset import expand_ranks, fold_ranks

#: Indices of MIG instances start here, ten for each GPU: a GPU has seven at most.
MIG, MIG_EACH = 1000, 10

_ID = re.compile(r"\d{1,3}:\d\Z|(?=.*[A-Za-z-])[0-9A-Za-z][0-9A-Za-z/-]{3,79}\Z")
_RANGE = re.compile(r"\d{1,3}(-\d{1,3})?\Z")


@frozen
class Vendor:
    """How the GPUs of a vendor are listed (``tool``) and chosen (``variable``).

    ``bounds`` are the variables of a login that bound what a run may use. ``order`` makes indices
    mean what the tool says, and ``hidden`` hides all GPUs.
    """

    tool: str
    variable: str
    hidden: Mapping[str, str]
    bounds: tuple[str, ...]
    order: Mapping[str, str] = field(default_factory=dict)


VENDORS: Mapping[str, Vendor] = {
    "nvidia": Vendor(
        "nvidia-smi",
        "CUDA_VISIBLE_DEVICES",
        hidden={"CUDA_VISIBLE_DEVICES": ""},
        bounds=("CUDA_VISIBLE_DEVICES",),
        order={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ),
    "amd": Vendor(
        "amd-smi",
        "HIP_VISIBLE_DEVICES",
        hidden={"HIP_VISIBLE_DEVICES": "-1"},
        # HIP counts what ROCr lets through. ROCr's variable is left to the login: Ray refuses it.
        bounds=("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    ),
    "intel": Vendor(
        "xpu-smi",
        "ZE_AFFINITY_MASK",
        hidden={"ONEAPI_DEVICE_SELECTOR": "*:cpu"},
        bounds=("ZE_AFFINITY_MASK",),
        # Otherwise a card with two tiles counts as two devices, and cards in an order of their own.
        order={"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE", "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"},
    ),
}
NVIDIA = "nvidia"
#: Variables that launcher computes, whatever the framework.
COMPUTED = frozenset(
    name for vendor in VENDORS.values() for name in (vendor.variable, *vendor.bounds)
)


def vendor_of(name: str) -> Vendor:
    """Return a vendor by the name that a host gave; NVIDIA for one that is not known here."""
    return VENDORS.get(name, VENDORS[NVIDIA])


def visible(vendor: str, names: Sequence[str]) -> dict[str, str]:
    """Return the variables with which a process sees only the GPUs of these names."""
    known = vendor_of(vendor)
    if not names:
        return dict(known.hidden)
    return {**known.order, known.variable: ",".join(names)}


def is_mig(index: int) -> bool:
    """Return whether an index is that of a MIG instance."""
    return index >= MIG


def parent_of(index: int) -> int:
    """Return the GPU that a MIG instance is a part of; of any other GPU its own index."""
    return (index - MIG) // MIG_EACH if is_mig(index) else index


def name_of(index: int) -> str:
    """Return what people call a GPU: ``2``, or ``1:3`` for a MIG instance."""
    return f"{parent_of(index)}:{(index - MIG) % MIG_EACH}" if is_mig(index) else str(index)


def fold(indices: Iterable[int]) -> str:
    """Return ``0-3,7`` for GPUs, and ``1:0,1:3`` for MIG instances."""
    ordered = sorted(indices)
    plain = [index for index in ordered if not is_mig(index)]
    parts = [fold_ranks(plain)] if plain else []
    return ",".join([*parts, *(name_of(index) for index in ordered if is_mig(index))])


def are_one(one: int, other: int) -> bool:
    """Return whether two runs that use these GPUs would meet: on the same one, or on a part of it."""
    if is_mig(one) and is_mig(other):
        return one == other
    return parent_of(one) == parent_of(other)


def read_ids(text: str) -> tuple[str, ...]:
    """Return the GPUs that a text names: ``0,2-3``, UUIDs, or ``1:0`` for a MIG instance.

    Raises ValueError.
    """
    found: list[str] = []
    for term in (part.strip() for part in text.split(",")):
        if _RANGE.match(term):
            found += map(str, sorted(expand_ranks(term)))
        elif _ID.match(term):
            found.append(term)
        else:
            raise ValueError(
                f"{term!r} names no GPU: an index (0-3), a UUID (GPU-..., MIG-...), "
                "or 1:0 for the first MIG instance of GPU 1"
            )
    if len(set(found)) < len(found):
        raise ValueError(f"{text!r} names a GPU twice")
    return tuple(found)


def is_index(identity: str) -> bool:
    """Return whether a GPU is named by its place in the host, and not by its UUID."""
    return identity.replace(":", "", 1).isdigit()


def index_of(identity: str) -> int:
    """Return the index of a GPU that is named by its place: 2 for ``2``, 1013 for ``1:3``."""
    parent, colon, instance = identity.partition(":")
    return MIG + MIG_EACH * int(parent) + int(instance) if colon else int(parent)
