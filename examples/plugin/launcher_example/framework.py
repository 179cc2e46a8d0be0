"""framework: seeded. A process for each rank, with a seed of its own."""

from launcher.api.plugins import Framework, Place, Process


class Seeded(Framework):
    """For scripts that read RANK, WORLD_SIZE and SEED."""

    name = "seeded"
    about = "one process for each rank, with a seed of its own"
    computed = frozenset({"RANK", "WORLD_SIZE", "SEED"})

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return what to start on this host."""
        return tuple(place.process(task, self._env(place, task.rank)) for task in place.tasks())

    def _env(self, place: Place, rank: int | None) -> dict[str, str]:
        size = str(place.layout.world_size)
        return {"RANK": str(rank), "WORLD_SIZE": size, "SEED": str(1000 + (rank or 0))}
