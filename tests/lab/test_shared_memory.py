"""What a run leaves in /dev/shm of a host: nothing, however it ends, and nothing of others is touched."""

from __future__ import annotations

from support import lab as labs
from support.command import Launcher

#: Batches by named segments of torch, which a process of its own cleans up two seconds later, and a
#: segment of Python's, for which there is another one. Then it is killed as the kernel kills; its
#: worker, which has them mapped, is deaf to SIGTERM.
LOADS = """
import os, signal
import torch, torch.multiprocessing
from multiprocessing import shared_memory
signal.signal(signal.SIGTERM, signal.SIG_IGN)
torch.multiprocessing.set_sharing_strategy("file_system")
class Ones(torch.utils.data.Dataset):
    def __len__(self):
        return 10**9
    def __getitem__(self, number):
        return torch.ones(1000)
loader = torch.utils.data.DataLoader(Ones(), batch_size=4, num_workers=1)
mine = shared_memory.SharedMemory(create=True, size=1 << 16)
kept = []
for number, batch in enumerate(loader):
    kept = [*kept[-2:], batch]
    if number == 5:
        print(" ".join(os.listdir("/dev/shm")), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_helpers_have_time_to_clean_up(launcher: Launcher, clean: labs.Lab) -> None:
    """Else a killed run fills /dev/shm, a bit more each time, until torch dies of a bus error."""
    host = clean.hosts["lab1"]
    host.run("sh", "-c", "rm -f /dev/shm/*; echo data >/dev/shm/mine")
    ran = launcher.run("--framework", "torch", "--grace", "0.5s", launcher.script(LOADS))
    assert ran.code == 137, ran.err
    there = ran.log("rank-0.out").split()
    assert any(name.startswith(b"torch_") for name in there)
    assert any(name.startswith(b"psm_") for name in there)
    assert host.run("ls", "/dev/shm").stdout.split() == [b"mine"]
    assert [h["left"] for h in ran.receipt["hosts"]] == [0]
