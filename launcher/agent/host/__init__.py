"""Facts about a host: GPUs, software, disks, and how it reaches other hosts."""
