"""Grid's "Multi-node training": what a user of it brings along works here, or a hint says what does.

The document's script is Lightning's of 2022, with a data set from the network: one of ours stands at
its path, with its arguments, and trains with the real Lightning of today.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.documents import hosts_with

SCRIPT = "pl_examples/basic_examples/mnist_examples/image_classifier_5_lightning_datamodule.py"
ARGUMENTS = ("--trainer.gpus", "4", "--trainer.strategy", "ddp", "--trainer.max_epochs", "50")
CLASSIFIER = """
import argparse, os, lightning, torch
from lightning.pytorch.loggers import TensorBoardLogger

class Digits(lightning.LightningDataModule):
    def train_dataloader(self):
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long()), 8)

class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)
    def training_step(self, batch, number):
        loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)

parser = argparse.ArgumentParser()
parser.add_argument("--trainer.gpus", type=int, dest="gpus")
parser.add_argument("--trainer.strategy", dest="strategy")
parser.add_argument("--trainer.max_epochs", type=int, dest="epochs")
args = parser.parse_args()
here = int(os.environ["LOCAL_WORLD_SIZE"])
trainer = lightning.Trainer(
    accelerator="cpu", devices=here, num_nodes=args.gpus // here, strategy=args.strategy,
    max_epochs=args.epochs, enable_progress_bar=False, log_every_n_steps=1,
    logger=TensorBoardLogger(os.environ["LAUNCHER_OUTPUT_DIR"], name=""))
trainer.fit(Classifier(), Digits())
print("rank", trainer.global_rank, "of", trainer.world_size, "epochs", trainer.current_epoch)
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Launcher]:
    """The command with four hosts of one GPU, as far as the inventory says, that have Lightning."""
    specs = [labs.HostSpec(f"lab{number}") for number in range(1, 5)]
    with hosts_with("lightning", specs, tmp_path, gpus="1") as launcher:
        yield launcher


@pytest.mark.frameworks
@pytest.mark.timeout(300)
def test_four_nodes_of_one_gpu(four: Launcher) -> None:
    """The number of GPUs alone decides; scalars and checkpoints are there to look at afterwards."""
    four.script(CLASSIFIER, SCRIPT)
    flags = ("--name", "spectral-wildebeest-860", "--framework", "lightning", "--gpus", "4",
             "--pull-every", "1h")  # what Lightning deletes again is not here then, however long it takes  # fmt: skip
    ran = four.run(*flags, SCRIPT, *ARGUMENTS, timeout=240)
    assert ran.code == 0, ran.err
    for rank in range(4):
        assert f"rank {rank} of 4 epochs 50\n".encode() in ran.log(f"rank-{rank}.out")
    assert ran.folder.name.startswith("spectral-wildebeest-860-")
    gpus = {host["host"]: host["gpus"] for host in ran.receipt["hosts"]}
    assert gpus == {f"lab{number}": [0] for number in range(1, 5)}, "how many were really used"
    paths = [Path(output["path"]) for output in ran.receipt["outputs"]]
    assert [path.name for path in paths if path.suffix == ".ckpt"] == ["epoch=49-step=100.ckpt"]
    (events,) = (path for path in paths if path.name.startswith("events.out.tfevents"))
    losses = scalars(ran.folder / "outputs" / events.parent, "train_loss")
    assert len(losses) == 100
    assert losses[-1] < losses[0] / 2


def scalars(folder: Path, name: str) -> list[float]:
    """What TensorBoard itself shows of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return [event.value for event in found.Scalars(name)]
