"""All-reduces of TensorFlow's MultiWorkerMirroredStrategy, over all replicas of all workers."""

import tensorflow as tf
from measure import ON_CPU, ON_GPU, Reducer, measure


class TensorFlow(Reducer):
    """Ranks are replicas here: a worker has one per GPU, or a single one."""

    def __init__(self):
        strategy = self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
        on_gpu = bool(tf.config.list_logical_devices("GPU"))
        self.rank = strategy.cluster_resolver.task_id or 0
        self.size = strategy.num_replicas_in_sync
        self.bytes = ON_GPU if on_gpu else ON_CPU
        self.backend = "TensorFlow (%s)" % ("gpu" if on_gpu else "cpu")
        self._tensor, self._total = self._of_all(tf.ones([self.bytes // 4])), None
        self._sum = tf.function(lambda values: strategy.run(_sum, args=(values,)))
        self._all = tf.function(lambda values: strategy.run(_all, args=(values,)))

    def _of_all(self, tensor):
        """Return the tensor on each replica of this worker."""
        give = self._strategy.experimental_distribute_values_from_function
        return give(lambda _: tf.identity(tensor))

    def _here(self, values):
        """Return the value on this worker's first replica."""
        return self._strategy.experimental_local_results(values)[0]

    def reduce(self, count):
        """Sum ones, and wait by reading one element."""
        for _ in range(count):
            self._total = self._sum(self._tensor)
        self._here(self._total)[0].numpy()

    def most(self, value):
        """Gather all values, since there is no maximum, and take the largest."""
        return float(tf.reduce_max(self._here(self._all(self._of_all(tf.constant([value]))))))

    def right(self):
        """Compare with the number of replicas."""
        return bool((self._here(self._total).numpy() == self.size).all())


# A function's argument is on no device yet, which a strategy refuses: hence tf.identity.


def _sum(tensor):
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(tensor))


def _all(tensor):
    return tf.distribute.get_replica_context().all_gather(tf.identity(tensor), axis=0)


if __name__ == "__main__":
    measure(TensorFlow())
