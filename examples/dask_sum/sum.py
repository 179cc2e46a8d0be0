"""Adds up squares that Dask computes on all hosts, and says how many workers there were."""

from dask.distributed import Client


def square(number: int) -> int:
    """Return the square of a number."""
    return number * number


client = Client()  # finds the scheduler in DASK_SCHEDULER_ADDRESS
workers = client.scheduler_info(n_workers=-1)["workers"]
hosts = {worker["host"] for worker in workers.values()}
total = client.submit(sum, client.map(square, range(100))).result()
print(f"the sum is {total}, by {len(workers)} workers on {len(hosts)} hosts")
