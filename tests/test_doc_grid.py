"""Grid's "Multi-node training": what a user of it brings along works here, or a hint says what does.

The document's script is Lightning's of 2022, with a data set from the network: one of ours stands at
its path, with its arguments, and trains with the real Lightning of today.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import lab as labs
import pytest
from conftest import Launcher
from documents import answered, hosts_with

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
    flags = ("--name", "spectral-wildebeest-860", "--framework", "lightning", "--gpus", "4")
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


def planned(launcher: Launcher, *flags: str) -> tuple[int, str, dict[str, int]]:
    """Exit code, complaint, and GPUs by host of a plan over hosts of four."""
    launcher.script("")
    inventory = launcher.work / "v100.yaml"
    inventory.write_text("hosts: {'gpu[1-3]': {gpus: 4}}\n")
    done = launcher.call("run", "-i", str(inventory), "--dry-run", "--json", *flags, "train.py")
    hosts = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
    return done.returncode, done.stderr, {one["host"]: len(one["gpus"]) for one in hosts}


def test_more_gpus_than_a_host_has_is_multi_node(tmp_path: Path) -> None:
    """`--gpus 5` on machines of four, without a word about nodes."""
    launcher = Launcher(tmp_path / "none", tmp_path, tmp_path / "home")
    assert planned(launcher, "--gpus", "1") == (0, "", {"gpu1": 1})
    assert planned(launcher, "--gpus", "5") == (0, "", {"gpu1": 4, "gpu2": 1})
    code, said, _ = planned(launcher, "--gpus", "5", "--framework", "lightning")
    assert code == 2
    assert "Lightning needs the same number of processes on every host: gpu1 4, gpu2 1" in said
    assert "use torchrun or torch, which take unequal hosts" in said


THEIRS = {
    "run --strategy grid_search train.py": "--strategy: a run has one set of values; to search",
    "run --instance_type 4_v100_32gb train.py": "choose machines with --hosts: by name, group or label",
    "run --credential_id remove-me train.py": "--secret NAME passes it from your environment",
    "artifacts spectral-wildebeest-860": "launcher pull RUN",
}


@pytest.mark.parametrize("words", THEIRS)
def test_what_is_called_otherwise_here(words: str, tmp_path: Path) -> None:
    answered(words, THEIRS[words], tmp_path)
