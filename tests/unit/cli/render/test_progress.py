"""How far copies are."""

from __future__ import annotations

from launcher.cli.render.progress import Reading, Transfer


def test_size_rate_time_left_and_the_slowest() -> None:
    copies = Transfer(began=100.0)
    assert copies.text(100.0) == ""
    copies.update("gpu1", 1_000_000_000, 50)
    assert copies.text(100.1) == "500.0 MB of 1.0 GB  gpu1 50 %"
    copies.update("gpu2", 1_000_000_000, 30)
    assert copies.text(110.0) == "800.0 MB of 2.0 GB  80.0 MB/s  15.0 s left  slowest gpu2 30 %"
    copies.update("gpu1", 1_000_000_000, 50, 507_000_000)  # to the byte
    assert copies.text(110.0).startswith("807.0 MB of 2.0 GB  80.7 MB/s")
    copies.update("gpu1", 1_000_000_000, 100)
    copies.update("gpu2", 1_000_000_000, 100)
    assert "left" not in copies.text(120.0)


def test_what_is_read_here_says_what_is_known() -> None:
    reading = Reading("corpus", began=100.0)
    reading.update(200_000_000, None)
    assert reading.text(100.5) == "reading corpus  200.0 MB"
    assert reading.text(102.0) == "reading corpus  200.0 MB  100.0 MB/s"
    reading.update(200_000_000, 1_000_000_000)
    assert reading.text(102.0) == "reading corpus  200.0 MB of 1.0 GB  100.0 MB/s  8.0 s left"


def test_many_hosts_take_one_line() -> None:
    """As at the end of a run on 64 hosts, which all store their outputs."""
    copies = Transfer(began=0.0)
    for number in range(64):
        copies.update(f"gpu-node-{number:03}", 3_000_000_000, number, number * 30_000_000)
    text = f"storing outputs 1 min 40 s  {copies.text(100.0)}"
    assert text.endswith(
        "60.5 GB of 192.0 GB  604.8 MB/s  3 min 37 s left  slowest gpu-node-000 0 %"
    )
    assert text.index("left") < 80, "what does not fit is which host is slowest"
