"""The demo's acts, each a command that a person would type and what it really says."""

import asyncio
import dataclasses
import importlib.resources
import re
import shlex
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from bareboat.cli.demo import stage, terminal, watching
from bareboat.workload import pod as pods
from bareboat.workload import status as statuses

OFFERS_SHOWN = 5
COMMAND_LIMIT_S = 30.0
FOLLOW_S, OWN_FOLLOW_S = 15.0, 45.0
END_LIMIT_S = 15.0
DELETE_LIMIT_S = 60.0
POLL_S = 0.25
PODS_SHOWN = 3
NARROW = 80


class Refused(Exception):
    """kubectl does not take the manifest; what it said has been shown."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to show: the user's own manifest (None for the demo's) and its namespace (empty for the default)."""

    manifest: Path | None
    namespace: str
    speed: float
    keep: bool


class Story:
    """Told once. `looking` is set while everything is kept up; whoever sets `looked` ends that."""

    def __init__(self, on: stage.Stage, teller: terminal.Teller, plan: Plan) -> None:
        self._on = on
        self._teller = teller
        self._plan = plan
        self._file = on.folder / "hello-gpu.yaml" if plan.manifest is None else plan.manifest
        self._file_told = self._file.name if plan.manifest is None else str(plan.manifest)
        self._namespace = ["-n", plan.namespace] if plan.namespace else []
        self._ok = True
        self.looking = asyncio.Event()
        self.looked = asyncio.Event()

    async def tell(self) -> int:
        """What the command exits with: 0 when every pod ran, none failed and nothing is left; else 1."""
        self._teller.act("A control plane, a cloud and a node, all on this machine")
        await self._on.start()
        await self._command("kubectl", "get", "nodes")
        await self._manifest()
        await self._offers()
        await self._life()
        if self._plan.keep:
            await self._look_around()
        else:
            await self._delete()
        await self._books()
        self._farewell()
        return 0 if self._ok else 1

    # -- acts

    async def _manifest(self) -> None:
        self._teller.act("A pod that asks for a GPU")
        if self._plan.manifest is None:
            text = importlib.resources.files(__package__).joinpath(self._file.name).read_text()
            self._file.write_text(text)
        self._teller.command(f"cat {shlex.quote(self._file_told)}")
        for line in self._file.read_text(errors="replace").splitlines():
            self._teller.output(line)
        await asyncio.sleep(self._teller.reading_s)

    async def _offers(self) -> None:
        self._teller.act("What could be rented for it")
        code = await self._command("bareboat", "offers", "-f", str(self._file), "-n", str(OFFERS_SHOWN))
        if code != 0:
            self._bad("`bareboat offers` found no answer")
        await asyncio.sleep(self._teller.reading_s)

    async def _life(self) -> None:
        self._teller.act("The scheduler places it, the node rents")
        if await self._command("kubectl", "apply", "-f", str(self._file)) != 0:
            raise Refused(f"kubectl does not take {self._file_told}; its reason stands above")
        watch = [*watching.EVENTS, *self._namespace]
        self._teller.command(_typed(watch))
        async with watching.Events(self._teller).watched(self._on, watch) as events:
            events.show()
            found = await self._settled()
            events.hold()
            ran = [pod for pod in found if pod.status.phase != statuses.PENDING]
            if ran:
                await self._command("kubectl", "get", "pods", *self._namespace)
                if self._plan.manifest is None:
                    await self._reach_in(ran[0].metadata.name)
                self._teller.act("What it says")
                await self._logs(ran)
                events.show()
        await self._command("kubectl", "get", "pods", *self._namespace)
        self._judge(await self._on.pods())

    async def _reach_in(self, pod: str) -> None:
        """Every verb that needs the machine itself; the last one gives the pod what it waits for."""
        self._teller.act("A rented machine, and kubectl can't tell")
        ok = await self._command("kubectl", "exec", pod, "--", "nvidia-smi", "-L") == 0
        ok &= await self._forward(pod)
        enough = self._on.folder / "enough.txt"
        enough.write_text("that will do\n")
        ok &= await self._command("kubectl", "cp", str(enough), f"{pod}:enough.txt") == 0
        if not ok:
            self._bad(f"{pod} could not be reached into")

    async def _forward(self, pod: str) -> bool:
        """A port of the pod, on this machine; one page of it."""
        words = ("kubectl", "port-forward", f"pod/{pod}", ":8000")
        self._teller.command(f"{_typed(words)} &")
        async with self._on.running(words) as forward:
            assert forward.stdout is not None
            try:
                async with asyncio.timeout(COMMAND_LIMIT_S):
                    said = (await forward.stdout.readline()).decode().strip()
            except TimeoutError:
                said = ""
            self._teller.output(said)
            found = re.search(r"127\.0\.0\.1:(\d+)", said)
            if found is None:
                return False
            url = f"http://127.0.0.1:{found[1]}/"
            server = await self._on.server_of(url)
            if server:
                self._teller.say(f"{url} is answered by {server}, on the rented machine.")
            return bool(server)

    async def _delete(self) -> None:
        self._teller.act("Gone, machine and all")
        await self._command("kubectl", "delete", "-f", str(self._file), limit_s=DELETE_LIMIT_S)
        if not await self._within(END_LIMIT_S, self._all_gone):
            self._ok = False

    async def _look_around(self) -> None:
        self._teller.act("Everything stays up until Ctrl-C")
        pod = next(iter(await self._on.pods()), None)
        name = pod.metadata.name if pod is not None else "POD"
        self._teller.say("In another terminal:")
        self._teller.line(f"  {self._on.to_look_around()}")
        where = "".join(f" {word}" for word in self._namespace)
        self._teller.line(f"  kubectl get nodes,pods -o wide{where}")
        self._teller.line(f"  kubectl describe pod {name}{where}")
        self._teller.line(f"  kubectl logs {name}{where}")
        self._teller.say("Ask the simulated cloud:")
        cloud = self._on.cloud
        account = f"VAST_URL={cloud['url']} VAST_API_KEY={cloud['api_key']}"
        self._teller.line(f"  export {account} VAST_LATENCY_CHECK_ENABLED=false")
        self._teller.line("  bareboat offers --gpu 'RTX 3090' --max-price 0.30")
        self._teller.line(f"  curl -s {cloud['control_url']}ledger")
        self._teller.say("What node and cloud log:")
        for log in self._on.logs:
            self._teller.line(f"  tail -f {log}")
        self.looking.set()
        await self.looked.wait()

    async def _books(self) -> None:
        self._teller.act("The cloud's own books")
        ledger = await self._on.ledger()
        rented = [each for each in ledger["instances"] if each["stage"] != "phantom"]
        for each in rented:
            self._teller.say(_told(each, ledger["now_s"]))
        left = len(ledger["running"])
        total_s = sum(_rented_s(each, ledger["now_s"]) for each in rented)
        left_told = "nothing left running" if not left else f"{left} still rented"
        sentence = f"rented {total_s:.0f} s simulated, ${ledger['usd']['total']:.4f}, {left_told}"
        if not rented:
            sentence = "nothing was rented, $0.0000"
        if ledger["double_rents"] or (left and not self._plan.keep):
            self._ok = False
            self._teller.bad(sentence)
        else:
            self._teller.good(sentence)

    def _farewell(self) -> None:
        self._teller.say("")
        self._teller.say(f"All of it took {self._teller.elapsed_s:.0f} s.")
        if self._plan.manifest is None and not self._plan.keep:
            self._teller.say("  bareboat demo --keep        leaves it up to look around in")
            self._teller.say("  bareboat demo --pod FILE    runs a manifest of your own")
            self._teller.say("With a VAST_API_KEY, `bareboat node` does the same on the real Vast.ai.")

    # -- how

    async def _settled(self) -> list[pods.Pod]:
        """Returns all pods once each of them runs, has ended, or has stood still for too long, which is told."""
        patience = watching.Patience(self._plan.speed)
        while True:
            found = await self._on.pods()
            pending = [pod for pod in found if pod.status.phase == statuses.PENDING]
            stuck = {pod.metadata.name: why for pod in pending if (why := patience.stuck(pod))}
            if found and len(stuck) == len(pending):
                break
            if not found and patience.none_made():
                self._bad(f"Nothing came of {self._file_told}: there is no pod after {patience.UNMADE_S:.0f} s.")
                break
            await asyncio.sleep(POLL_S)
        for name, why in stuck.items():
            self._bad(f"{name} stays Pending: {why}")
        if watching.NO_TOLERATION in stuck.values():
            self._teller.say("Add this to the pod, or to the template of what makes it:")
            self._teller.line(watching.TOLERATION)
        return found

    async def _logs(self, ran: Sequence[pods.Pod]) -> None:
        first, *others = ran[:PODS_SHOWN]
        limit_s = OWN_FOLLOW_S if self._plan.manifest is None else FOLLOW_S
        code = await self._command("kubectl", "logs", "-f", first.metadata.name, *self._namespace, limit_s=limit_s)
        if code is None:
            self._teller.say(f"({first.metadata.name} goes on; the demo has followed it for {limit_s:.0f} s)")
        else:
            await self._within(END_LIMIT_S, lambda: self._is_over(first.key))
        for other in others:
            await self._command("kubectl", "logs", "--tail=10", other.metadata.name, *self._namespace)

    def _judge(self, found: Sequence[pods.Pod]) -> None:
        for pod in found:
            if pod.status.phase == statuses.FAILED:
                ended = [each.state.terminated for each in pod.status.container_statuses if each.state.terminated]
                why = pod.status.message or (f"exit code {ended[0].exit_code}" if ended else pod.status.reason)
                self._bad(f"{pod.metadata.name} failed: {why}")

    def _bad(self, sentence: str) -> None:
        self._ok = False
        self._teller.bad(sentence)

    async def _is_over(self, key: tuple[str, str]) -> bool:
        return all(pod.status.phase in statuses.TERMINAL for pod in await self._on.pods() if pod.key == key)

    async def _all_gone(self) -> bool:
        return not await self._on.pods() and not (await self._on.ledger())["running"]

    async def _within(self, limit_s: float, wanted: Callable[[], Awaitable[bool]]) -> bool:
        give_up_s = time.monotonic() + limit_s
        while not await wanted():
            if time.monotonic() > give_up_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _command(self, *words: str, limit_s: float = COMMAND_LIMIT_S) -> int | None:
        """Shown as it would be typed, run, its output shown as it comes."""
        self._teller.command(_typed([self._told_as(word) for word in words]))
        return await self._on.run(words, self._teller.output, limit_s=limit_s)

    def _told_as(self, word: str) -> str:
        """Files of the demo's own folder by their name."""
        if word == str(self._file):
            return self._file_told
        return Path(word).name if word.startswith(f"{self._on.folder}/") else word


def cut(line: str) -> str:
    """To the width of the narrowest terminal: nobody reads the rest of a key or a page."""
    return line if len(line) <= NARROW else f"{line[: NARROW - 2]} …"


def _typed(words: Sequence[str]) -> str:
    """As a person would type it; shells leave a `!` before a `=` alone."""
    return " ".join(word if "'" not in word and "!=" in word else shlex.quote(word) for word in words)


def _rented_s(instance: dict[str, Any], now_s: float) -> float:
    return float((instance["gone_s"] or now_s) - instance["created_s"])


def _told(instance: dict[str, Any], now_s: float) -> str:
    usd = instance["usd"]
    what = f"{instance['gpus']}x {instance['gpu']}"
    paid = f"GPU ${usd['gpu']:.4f}, disk ${usd['disk']:.4f}, traffic ${usd['bandwidth']:.4f}"
    name = f"runpod/{instance['pod_id']}" if "pod_id" in instance else f"vast/{instance['id']}"
    return f"{name}: {what}, {_rented_s(instance, now_s):.0f} s: {paid}"
