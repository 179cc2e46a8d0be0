"""The project of a run on its hosts: quotas, what each run shows, and who decides."""
