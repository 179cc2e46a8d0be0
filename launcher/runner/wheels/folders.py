"""Where this machine keeps the wheels that it has fetched for hosts, in ``~/.launcher/wheels``::

files/<sha256>      a wheel, once for all sets that have it
sets/<key>/         the wheels of one kind of host, and ``wheels.txt``, which lists them
sets/<key>.json     the version that this folder has as a data set; without it, the set is not there
sets/<key>.lock     held while a set is fetched
sets/<key>.new/     a set that is not complete yet
"""

from __future__ import annotations

#: Below launcher's folder.
FOLDER = "wheels"
