"""What a host may answer, as values with bounds.

A host is not trusted beyond itself. Everything that it sends passes here, or through
``records/events/journal.py``, before anything is done with it; what does not fit is a BadAnswer of that
host.
"""
