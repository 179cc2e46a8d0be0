"""What plug-ins of other packages are made of: stable names, each imported when it is used.

=========================  =======================================================================
Entry point group          What it names
=========================  =======================================================================
``launcher.frameworks``    a subclass of ``Framework``, with the entry point's name
``launcher.inventories``   an ``InventoryFormat``: ``recognise(Text)``, ``read(Text, InventoryDraft)``
``launcher.tasks``         a ``TaskFormat``: ``read(Text, JobDraft)``
``launcher.checks``        a function of a ``Survey`` and a ``Host`` that yields ``Finding``
``launcher.notifiers``     a function of ``News`` and a text, what stands behind ``NAME:``
=========================  =======================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..fleet.findings import Finding
    from ..fleet.findings.survey import Survey
    from ..frameworks import Cast, Framework, Need, Place
    from ..frameworks.cluster import Cluster, Parts
    from ..interop.inventories import Format as InventoryFormat
    from ..interop.inventories import InventoryDraft
    from ..interop.source import Text
    from ..interop.tasks import Format as TaskFormat
    from ..interop.tasks import JobDraft
    from ..runner.notify import News
    from ..spec.errors import PlanError
    from ..spec.model import Host, Node, Process, Task

__all__ = [
    "Cast",
    "Cluster",
    "Finding",
    "Framework",
    "Host",
    "InventoryDraft",
    "InventoryFormat",
    "JobDraft",
    "Need",
    "News",
    "Node",
    "Parts",
    "Place",
    "PlanError",
    "Process",
    "Survey",
    "Task",
    "TaskFormat",
    "Text",
]

#: Where each is, and its name there if that is another one.
_HOME = {
    "Cast": "frameworks",
    "Cluster": "frameworks.cluster",
    "Finding": "fleet.findings",
    "Framework": "frameworks",
    "Host": "spec.model",
    "InventoryDraft": "interop.inventories",
    "InventoryFormat": "interop.inventories:Format",
    "JobDraft": "interop.tasks",
    "Need": "frameworks",
    "News": "runner.notify",
    "Node": "spec.model",
    "Parts": "frameworks.cluster",
    "Place": "frameworks",
    "PlanError": "spec.errors",
    "Process": "spec.model",
    "Survey": "fleet.findings.survey",
    "Task": "spec.model",
    "TaskFormat": "interop.tasks:Format",
    "Text": "interop.source",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a framework needs nothing of importers."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, other = _HOME[name].partition(":")
    return getattr(import_module(f"launcher.{module}"), other or name)
