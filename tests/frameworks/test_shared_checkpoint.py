"""What Lightning's rank 0 saves in a shared folder, all ranks load: ``test(ckpt_path="best")``."""

from __future__ import annotations

import pytest

from support.command import Launcher

pytestmark = pytest.mark.timeout(240)

SCRIPT = r"""
import os, time
import lightning, torch
from lightning.pytorch.callbacks import ModelCheckpoint

class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
    def training_step(self, batch, number):
        loss = torch.nn.functional.mse_loss(self.line(batch[0]), 2 * batch[0] + 1)
        self.log("loss", loss, sync_dist=True)
        return loss
    def test_step(self, batch, number):
        self.log("tested", torch.nn.functional.mse_loss(self.line(batch[0]), 2 * batch[0] + 1))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)

data = torch.utils.data.TensorDataset(torch.linspace(-1, 1, 64)[:, None])
loader = torch.utils.data.DataLoader(data, batch_size=16)
best = ModelCheckpoint("checkpoints", monitor="loss", save_last="link")
trainer = lightning.Trainer(
    accelerator="cpu", strategy="ddp", devices=1, num_nodes=2, max_epochs=4, logger=False,
    enable_progress_bar=False, callbacks=[best],
)
trainer.fit(Line(), loader)
deadline = time.monotonic() + 180
while not os.path.exists(best.best_model_path) and time.monotonic() < deadline:
    time.sleep(0.1)
trainer.test(ckpt_path="best", dataloaders=loader)
print("rank", trainer.global_rank, "tested", os.path.basename(best.best_model_path))
trainer.strategy.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("of", ["lightning"], indirect=True)
def test_all_ranks_test_the_best_checkpoint(of: Launcher) -> None:
    flags = ["--nodes", "2", "--nproc-per-node", "1", "--framework", "lightning"]
    script = of.script(SCRIPT)
    ran = of.run(*flags, "--share", "checkpoints", script, timeout=220)
    assert ran.code == 0, ran.err
    said = [ran.log(f"rank-{rank}.out").decode() for rank in (0, 1)]
    assert all(f"rank {rank} tested epoch=" in text for rank, text in enumerate(said)), said
    assert list((ran.folder / "outputs" / "checkpoints").glob("epoch=*.ckpt"))
