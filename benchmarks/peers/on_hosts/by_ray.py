"""What a user of Ray Train writes, on a cluster that is up: by_ray.py RANKS KIND ADDRESS:PORT OUTPUTS."""

import sys

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def loop(words: dict[str, list[str]]) -> None:
    """Be one worker."""
    sys.path.insert(0, "/root/code")
    import rank

    rank.main(*words["words"])


if __name__ == "__main__":
    ray.init(address="auto")
    TorchTrainer(
        loop,
        train_loop_config={"words": sys.argv[2:5]},
        scaling_config=ScalingConfig(num_workers=int(sys.argv[1])),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(storage_path="/shared/ray"),
    ).fit()
