"""What a host is and has: GPUs, software, disks, the ways to other hosts."""
