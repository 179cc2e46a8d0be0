"""A notifier: ``--notify append:FILE`` adds a line to a file. What it raises harms no run."""

from pathlib import Path

from launcher.api.plugins import News


def append(news: News, where: str) -> None:
    """Append the news to the file ``where``."""
    with Path(where).expanduser().open("a") as file:
        file.write(f"{news.event}: {news.text}\n")
