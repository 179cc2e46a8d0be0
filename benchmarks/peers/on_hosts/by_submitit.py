"""What a user of submitit writes: by_submitit.py NODES RANKS KIND ADDRESS:PORT OUTPUTS."""

import sys

import rank
import submitit

if __name__ == "__main__":
    nodes, each = map(int, sys.argv[1:3])
    executor = submitit.AutoExecutor(folder="/shared/submitit", cluster="slurm")
    executor.update_parameters(nodes=nodes, tasks_per_node=each, timeout_min=10)
    job = executor.submit(rank.main, *sys.argv[3:6])
    job.results()
    for task in range(nodes * each):
        print(job.task(task).stdout(), end="")
