"""Models of GPUs: what people write, and what their tools call them."""

from __future__ import annotations

import pytest

from launcher.spec import gpu_models


@pytest.mark.parametrize(
    ("wanted", "name", "memory", "expected"),
    [
        ("A100", "NVIDIA A100-SXM4-80GB", 81920, True),
        ("a100-80gb", "NVIDIA A100-SXM4-80GB", 81920, True),
        ("A100-40GB", "NVIDIA A100-SXM4-80GB", 81920, False),
        ("A10", "NVIDIA A100 80GB PCIe", 81920, False),
        ("L4", "NVIDIA L40S", 46068, False),
        ("rtx3090", "NVIDIA GeForce RTX 3090", 24576, True),
        ("RTX 3090", "NVIDIA GeForce RTX 3090 Ti", 24564, False),
        ("3090-ti", "NVIDIA GeForce RTX 3090 Ti", 24564, True),
        ("4070TiSuper", "NVIDIA GeForce RTX 4070 Ti SUPER", 16376, True),
        ("RTXA6000", "NVIDIA RTX A6000", 49140, True),
        ("H100-80GB", "NVIDIA H100 PCIe", 81559, True),  # its name does not tell, its memory does
        ("H100-94GB", "NVIDIA H100 PCIe", 81559, False),
        ("V100-32GB", "Tesla V100-SXM2-32GB", 32768, True),
        ("MI250X", "AMD Instinct MI250X", 65520, True),
    ],
)
def test_models_are_matched_as_people_write_them(
    wanted: str, name: str, memory: int, expected: bool
) -> None:
    assert gpu_models.is_of(wanted, name, memory) is expected


def test_a_number_may_have_a_model() -> None:
    assert gpu_models.read_count("4") == (None, 4)
    assert gpu_models.read_count("A100-80GB:4") == ("A100-80GB", 4)
    for wrong in ("", "A100:", ":4", "A100:four", "-1", "1.5"):
        with pytest.raises(ValueError, match="no number of GPUs"):
            gpu_models.read_count(wrong)
    with pytest.raises(ValueError, match="such as A100:1"):
        gpu_models.read_count("A100")


def test_gpus_are_counted_without_their_makers() -> None:
    names = ["NVIDIA RTX A6000", "NVIDIA RTX A6000", "Tesla V100-SXM2-32GB"]
    assert gpu_models.tally(names) == "2x RTX A6000, 1x V100-SXM2-32GB"
