"""Estimates pi by darts that Ray throws on all hosts, and says how many hosts took part."""

import random
import time

import ray

THROWS = 200_000

ray.init(log_to_driver=False)  # finds the cluster in RAY_ADDRESS


@ray.remote
def throw(seed: int) -> tuple[str, int]:
    """Return this host's id, and how many darts hit the circle."""
    time.sleep(1)  # or the first host would be done before the others begin
    dart = random.Random(seed)
    hits = sum(dart.random() ** 2 + dart.random() ** 2 < 1 for _ in range(THROWS))
    return ray.get_runtime_context().get_node_id(), hits


cores = int(ray.cluster_resources()["CPU"])
results = ray.get([throw.remote(seed) for seed in range(2 * cores)])
hosts = {host for host, _ in results}
pi = 4 * sum(hits for _, hits in results) / (THROWS * len(results))
print(f"pi is about {pi:.2f}, by {cores} cores of {len(hosts)} hosts")
