"""Searches for the lowest point of a valley with Ray Tune, on all hosts at once."""

import os
import time

import ray
from ray import tune


def valley(config: dict[str, float]) -> None:
    """Report how high this trial stands, and on which host."""
    time.sleep(2)  # or the first host would be done before the others begin
    host = ray.get_runtime_context().get_node_id()
    tune.report({"height": (config["x"] - 3) ** 2 + config["y"] ** 2, "host": host})


ray.init()  # finds the cluster in RAY_ADDRESS
results = tune.Tuner(
    tune.with_resources(valley, {"cpu": 1}),
    param_space={"x": tune.grid_search([1, 2, 3, 4]), "y": tune.grid_search([0, 1])},
    tune_config=tune.TuneConfig(metric="height", mode="min"),
    run_config=tune.RunConfig(name="valley", storage_path=os.environ["LAUNCHER_OUTPUT_DIR"]),
).fit()
best = results.get_best_result()
hosts = {one.metrics["host"] for one in results}
print(f"best of {len(results)}: x={best.config['x']} y={best.config['y']}, on {len(hosts)} hosts")
