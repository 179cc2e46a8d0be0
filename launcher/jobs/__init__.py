"""From a job file to a plan: roles, placement, placeholders."""
