"""What the end of a process means for the run on this host: well, badly, or the lead's, which ends all.

Without roles every process has to end with 0, and none leads.
"""

#: Seconds that a lead which is just ending has, when another process fails because of that.
LEAD_PATIENCE = 1.0


class Endings:
    """Knows the roles of the processes of one start, and which leads have ended well."""

    def __init__(self, processes):
        self._processes = {process["key"]: process for process in processes}
        self._led = set()

    def about(self, key):
        """What the journal tells of a process when it starts."""
        process = self._processes.get(key, {})
        return {name: process[name] for name in ("lead", "leads", "role") if process.get(name)}

    def ended(self, key, code):
        """Notes an end. Returns whether it is a failure, and what the journal tells of it."""
        process = self._processes.get(key, {})
        action = _action(process.get("on_exit") or {}, code)
        failed = action in ("fail", "restart") or (code != 0 and action != "complete")
        if process.get("lead") and not failed:
            self._led.add(key)
        return failed, ({"action": action} if action else {})

    def is_lead(self, key):
        """Whether this process of this host is one of those that end the run."""
        return bool(self._processes.get(key, {}).get("lead"))

    def ended_elsewhere(self, key):
        """Notes that a lead on another host has ended well."""
        self._led.add(key)

    def patience(self, key):
        """Seconds until a failure of this process counts: a lead closes its connections a moment
        before it has ended."""
        process = self._processes.get(key, {})
        return LEAD_PATIENCE if process.get("leads") and not process.get("lead") else 0.0

    @property
    def over(self):
        """Whether all leads of the run have ended well, as far as is known here."""
        leads = [process["leads"] for process in self._processes.values() if process.get("leads")]
        return bool(leads) and len(self._led) == leads[0]


def _action(on_exit, code):
    """What the job says about an exit status, as a shell would give it; "" for nothing."""
    status = code if code >= 0 else 128 - code
    for action, ranges in on_exit.items():
        if any(first <= status <= last for first, last in ranges):
            return action
    return ""
