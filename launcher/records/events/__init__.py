"""What happens in a run, as past-tense facts. The CLI and the records read nothing else.

Times are seconds since the epoch by the launching machine's clock; times from hosts are corrected by
their clock's offset.
"""

# In the order in which the reference of the Python API shows them.
from .event import *
from .run import *
from .hosts import *
from .queue import *
from .files import *
from .software import *
from .processes import *
from .progress import *
from ..failure import Failure as Failure
from ..failure import signal_name as signal_name
from .codec import *
from .journal import *
