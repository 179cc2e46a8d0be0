"""Estimates pi over all executors of a Spark cluster, as Spark's own first example does."""

import os
import random

from pyspark.sql import SparkSession

PARTS, POINTS = 8, 100_000


def inside(part: int) -> int:
    chance = random.Random(part)
    return sum(chance.random() ** 2 + chance.random() ** 2 < 1 for _ in range(POINTS))


builder = SparkSession.builder.appName("pi")
# Not in the command, which every user of the host could read.
spark = builder.config("spark.authenticate.secret", os.environ["_SPARK_AUTH_SECRET"]).getOrCreate()
count = spark.sparkContext.parallelize(range(PARTS), PARTS).map(inside).sum()
print("pi is roughly", 4 * count / (PARTS * POINTS), "by", spark.sparkContext.master)
spark.stop()
