"""`bareboat offers` as a person or a program sees it, with a cloud made of a list."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydantic
import pytest
import typer
from tests.unit.core import offering
from typer import testing

from bareboat.cli import offers as command
from bareboat.clouds import discovery
from bareboat.core import errors, needs, offers

app = typer.Typer()
app.command()(command.command)

OFFERS = [
    offering.an_offer(id="1", usd_per_hour=0.30),
    offering.an_offer(id="2", usd_per_hour=0.40, usd_per_gib_month=0.0),
    offering.an_offer(id="3", usd_per_hour=0.20, verified=False),
    offering.an_offer(id="4", usd_per_hour=2.00, gpu_name="H100 SXM", gpu_memory_gib=79.65, region=None),
    offering.an_offer(id="5", usd_per_hour=0.70, gpu_count=2, region="SE"),
]


class ListCloud:
    """Answers a search as a cloud that filters by price and verification; records what it was asked."""

    name = "list"

    def __init__(self, troubles: Sequence[Exception] = ()) -> None:
        self.asked: list[needs.Needs] = []
        self.closed = 0
        self._troubles = list(troubles)

    async def search(self, wanted: needs.Needs) -> Sequence[offers.Offer]:
        self.asked.append(wanted)
        if self._troubles:
            raise self._troubles.pop(0)
        most = wanted.max_usd_per_hour
        return [
            offer
            for offer in OFFERS
            if (offer.verified or not wanted.verified_only) and (most is None or offer.usd_per_hour <= most)
        ]

    async def close(self) -> None:
        self.closed += 1


class NoSettings(pydantic.BaseModel):
    pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ListCloud]:
    for variable in ("VAST_PREFERRED_REGIONS", "VAST_MAX_LATENCY_MS", "BAREBOAT_ENV_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("VAST_LATENCY_CHECK_ENABLED", "false")

    def serve(*troubles: Exception) -> ListCloud:
        cloud = ListCloud(troubles)

        class Module:
            @staticmethod
            def open(_settings: Any, _clock: Any) -> ListCloud:
                return cloud

        driver = discovery.Driver("list", NoSettings, Module)
        monkeypatch.setattr(discovery, "drivers", lambda: [driver])
        return cloud

    return serve


def run(*words: str) -> testing.Result:
    return testing.CliRunner().invoke(app, list(words), env={"COLUMNS": "80"})


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.out, "width", 80)


def test_the_table_is_ranked_fits_80_columns_and_ends_with_the_near_misses(served: Callable[..., ListCloud]) -> None:
    cloud = served()
    shown = run("--gpu", "RTX_4090", "--max-price", "0.35")
    assert shown.exit_code == 0, shown.output
    lines = [line.rstrip() for line in shown.output.splitlines()]
    assert all(len(line) <= 80 for line in lines)
    assert "RTX 4090   24 GiB   US-CA" in shown.output
    assert "0.302" in shown.output  # 0.30 and ten GiB of disk at 0.144 $ a month
    assert lines[-3] == "1 of 3 offers fits; left out: 1 for max price, 1 for verified"
    assert lines[-2] == "1 more if max price were 0.40 $/h"
    assert lines[-1] == "1 more if unverified machines were allowed"
    assert cloud.closed == 1


def test_the_json_is_whole_and_stable(served: Callable[..., ListCloud]) -> None:
    served()
    told = json.loads(run("--json", "--count", "1").stdout)
    assert list(told) == ["seen", "fitting", "machines", "offers", "rejected", "misses", "sentence"]
    assert (told["seen"], told["fitting"]) == (5, 3)
    best = told["offers"][0]
    assert (best["rank"], best["cloud"], best["gpu"], best["machine_id"]) == (1, "vast", "RTX 4090", "m1")
    assert best["usd_per_hour"] == pytest.approx(0.302)
    assert sum(best["points"].values()) == pytest.approx(best["score"], abs=0.01)
    assert told["misses"][0] == {"count": 1, "changes": {"verified": "unverified machines were allowed"}}


def test_every_flag_reaches_the_needs(served: Callable[..., ListCloud]) -> None:
    cloud = served()
    words = "--gpu L40S,H100 --gpu A100 --count 2 --min-vram 40 --max-price 3 --region us_ca,EU --disk 50 --cpu 8"
    words += " --memory 32 --ports 2 --reliability 0.9 --cuda 12.4 --spot --unverified"
    assert run(*words.split()).exit_code == 0
    assert dataclasses.replace(cloud.asked[0], min_inet_down_mbps=None, min_duration_s=None) == needs.Needs(
        gpu_count=2,
        gpu_names=("L40S", "H100", "A100"),
        gpu_memory_gib=40,
        cpu_cores=8,
        memory_gib=32,
        disk_gib=50,
        ports=2,
        max_usd_per_hour=3,
        regions=("US-CA", "EU"),
        min_reliability=0.9,
        min_cuda=12.4,
        verified_only=False,
        pricing=needs.Pricing.SPOT,
    )


MANIFEST = """
kind: ConfigMap
---
kind: Deployment
spec:
  template:
    metadata: {annotations: {bareboat.dev/gpu-names: "RTX 4090", vast.ai/max-price: "0.31"}}
    spec:
      containers: [{name: a, image: b, resources: {limits: {nvidia.com/gpu: 1}}}]
"""


def test_a_manifest_is_asked_for_as_its_pod_would_be_and_flags_go_before_it(
    served: Callable[..., ListCloud], tmp_path: Path
) -> None:
    cloud = served()
    manifest = tmp_path / "all.yaml"
    manifest.write_text(MANIFEST)
    assert run("-f", str(manifest)).exit_code == 0
    assert run("-f", str(manifest), "--max-price", "0.5").exit_code == 0
    assert cloud.asked[0].gpu_names == ("RTX 4090",)
    assert [asked.max_usd_per_hour for asked in cloud.asked[::2]] == [0.31, 0.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MANIFEST.replace("0.31", "lots"), "annotation vast.ai/max-price is 'lots'; allowed: a number from"),
        ("a: [", "line 1, is not YAML"),
        ("kind: Pod\nspec: {containers: 3}\n", "Expected `array`, got `int` - at `$.spec.containers`"),
        ("kind: Service\n", "holds no Pod and nothing with a pod template"),
    ],
)
def test_a_manifest_that_makes_no_sense_ends_with_2_and_a_sentence(
    served: Callable[..., ListCloud], tmp_path: Path, text: str, said: str
) -> None:
    served()
    manifest = tmp_path / "bad.yaml"
    manifest.write_text(text)
    shown = run("-f", str(manifest))
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--region", "Sweden"], "--region is 'Sweden'; allowed: codes such as US-CA"),
        (["--cloud", "nimbus"], "there is no cloud 'nimbus'"),
        (["--count", "-1"], "--count"),
        (["-f", "no/such/file"], "no/such/file can't be read: No such file or directory"),
    ],
)
def test_flags_that_make_no_sense_end_with_2_and_a_sentence(
    served: Callable[..., ListCloud], words: list[str], said: str
) -> None:
    served()
    shown = run(*words)
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_a_refused_key_ends_with_1_and_closes_the_cloud(served: Callable[..., ListCloud]) -> None:
    cloud = served(errors.CredentialsRefused("list", "the key is wrong"))
    shown = run()
    assert shown.exit_code == 1
    assert shown.stderr.strip() == "bareboat offers: list: the key is wrong"
    assert cloud.closed == 1


def test_being_asked_to_wait_is_waited_out(served: Callable[..., ListCloud]) -> None:
    cloud = served(errors.Throttled("list", "asked too often", 0.0))
    shown = run("--count", "1")
    assert shown.exit_code == 0
    assert "asked too often; asking again in 1 s" in shown.stderr
    assert len(cloud.asked) == 3


def test_points_are_explained_when_asked(served: Callable[..., ListCloud]) -> None:
    served()
    shown = run("--explain")
    assert "#1 RTX 4090:" in shown.output
    for name in ("price", "performance", "GPU match", "region", "reliability", "bandwidth", "trust", "history"):
        assert name in shown.output


def test_a_watch_goes_on_through_trouble_and_prints_a_line_of_json_for_each_look(
    served: Callable[..., ListCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "WATCH_EVERY_S", 0.01)
    cloud = served(errors.CloudDown("list", "no answer"))
    written = io.StringIO()

    def write(text: str) -> int:
        if written.write(text) and written.getvalue().count("\n") == 2:
            raise KeyboardInterrupt
        return len(text)

    monkeypatch.setattr(command, "write", write)
    shown = run("--json", "-w")
    assert shown.exit_code == 130
    assert [json.loads(line)["seen"] for line in written.getvalue().splitlines()] == [5, 5]
    assert "list: no answer" in shown.stderr
    assert cloud.closed == 1
