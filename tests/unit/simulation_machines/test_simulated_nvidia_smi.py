"""The simulated nvidia-smi, run by a real shell."""

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bareboat.simulation.machines import machine, nvidia

GPU = machine.GpuSpec("RTX 3060", count=2, memory_mib=12_288, driver_version="550.127.05", cuda_version="12.4")


def run(tmp_path: Path, *arguments: str, gpu: machine.GpuSpec = GPU) -> tuple[int, str]:
    program = tmp_path / "nvidia-smi"
    program.write_text(nvidia.script(gpu))
    done = subprocess.run(["/bin/sh", program, *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_plain_table_is_straight_and_names_the_gpu(tmp_path: Path) -> None:
    code, text = run(tmp_path)
    assert code == 0
    assert "Driver Version: 550.127.05" in text
    assert "CUDA Version: 12.4" in text
    assert text.count("NVIDIA GeForce RTX 3060") == 2
    assert text.count("/  12288MiB") == 2
    table = [line for line in text.splitlines() if line[:1] in "|+"]
    assert {len(line) for line in table if line} == {91}


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (
            "csv",
            [
                "name, memory.total [MiB], utilization.gpu [%]",
                *["NVIDIA GeForce RTX 3060, 12288 MiB, 0 %"] * 2,
            ],
        ),
        ("csv,noheader", ["NVIDIA GeForce RTX 3060, 12288 MiB, 0 %"] * 2),
        ("csv,noheader,nounits", ["NVIDIA GeForce RTX 3060, 12288, 0"] * 2),
        (
            "csv,nounits",
            ["name, memory.total [MiB], utilization.gpu [%]", *["NVIDIA GeForce RTX 3060, 12288, 0"] * 2],
        ),
    ],
)
def test_queries_answer_as_comma_separated_values(tmp_path: Path, options: str, lines: list[str]) -> None:
    code, text = run(tmp_path, "--query-gpu=name,memory.total,utilization.gpu", f"--format={options}")
    assert (code, text.splitlines()) == (0, lines)


def test_query_can_ask_for_one_gpu_and_by_the_old_names(tmp_path: Path) -> None:
    code, text = run(tmp_path, "--query-gpu=index, gpu_name", "--format=csv,noheader", "-i", "1")
    assert (code, text) == (0, "1, NVIDIA GeForce RTX 3060\n")


def test_listing_gives_each_gpu_a_lasting_uuid(tmp_path: Path) -> None:
    first, second = run(tmp_path, "-L")[1].splitlines()
    assert first.startswith("GPU 0: NVIDIA GeForce RTX 3060 (UUID: GPU-")
    assert first[-41:] != second[-41:]
    assert run(tmp_path, "-L")[1].splitlines() == [first, second]


def test_xml_is_xml(tmp_path: Path) -> None:
    tree = ET.fromstring(run(tmp_path, "-q", "-x")[1])
    assert [total.text for total in tree.findall("gpu/fb_memory_usage/total")] == ["12288 MiB"] * 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--query-gpu=nonsense", "--format=csv"], 2, 'Field "nonsense" is not a valid field to query.'),
        (["--query-gpu=name"], 2, "--format="),
        (["--nonsense"], 1, "Invalid combination of input arguments"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    found, text = run(tmp_path, *arguments)
    assert found == code
    assert words in text


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("RTX 3060", "NVIDIA GeForce RTX 3060"),
        ("RTX_4090", "NVIDIA GeForce RTX 4090"),
        ("GTX 1080 Ti", "NVIDIA GeForce GTX 1080 Ti"),
        ("RTX A6000", "NVIDIA RTX A6000"),
        ("A100 SXM4", "NVIDIA A100 SXM4"),
        ("NVIDIA L4", "NVIDIA L4"),
    ],
)
def test_names_are_the_drivers(name: str, full: str) -> None:
    assert nvidia.full_name(name) == full


def test_name_with_a_quote_stays_text(tmp_path: Path) -> None:
    odd = machine.GpuSpec("it's $(odd)")
    assert "NVIDIA it's $(odd)" in run(tmp_path, "-L", gpu=odd)[1]
