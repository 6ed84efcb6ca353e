"""The demo of `bareboat offload`: a queue that is too long for the GPU here overflows to the cloud."""

import importlib.resources
import json
import textwrap

from bareboat.cli.demo import lines, story
from bareboat.sandbox import processes

LOCAL, VIRTUAL = "gpu-1", "runpod-virtual-node"
MANIFEST = "offload-jobs.yaml"
JOBS = ("train-1", "train-2", "train-3")
WAITS_S = 5
LIMIT_S = 40.0
WIDTH = 78
SHOWN = ("offload.bound", "instance.ended")


class Story(story.Story):
    """Three Jobs, one place: two of them wait for five seconds, leave, and complete."""

    async def tell(self) -> int:
        self._teller.act("A control plane with one GPU, a cloud, and bareboat offload")
        await self._on.start(node=False, cloud="runpod")
        await self._on.stand_in(LOCAL, gpus=1)
        self._teller.part(f"Node {LOCAL}", "one GPU; a stand-in, nothing really runs on it", 0.0)
        (port,) = processes.free_ports(1)
        flags = (f"--max-pending-time={WAITS_S}", "--pending-job-threshold=9", "--max-gpu-price=0.5")
        health = f"--health-server-address=127.0.0.1:{port}"
        inside = ("--address=127.0.0.1", "--kubelet-port=0", health)
        self._part = self._on.part("offload", *flags, *inside, BAREBOAT_LOG_FORMAT="json")
        await self._on.until(lambda: self._on.node_is_ready(VIRTUAL), f"{VIRTUAL} is Ready")
        self._teller.command(f"bareboat offload {' '.join(flags[:2])}")
        await self._queue(flags)
        await self._overflow()
        if self._plan.keep:
            await self._look_around()
        else:
            await self._gone()
        await self._books()
        self._farewell()
        return 0 if self._ok else 1

    async def _queue(self, flags: tuple[str, ...]) -> None:
        self._teller.act("Three Jobs, one place")
        file = self._on.folder / MANIFEST
        file.write_text(importlib.resources.files(__package__).joinpath(MANIFEST).read_text())
        if await self._command("kubectl", "apply", "-f", str(file)) != 0:
            raise story.Refused(f"kubectl does not take {MANIFEST}; its reason stands above")
        await self._within(LIMIT_S, self._is_queued)
        await self._wrapped("bareboat", "offload", "--explain", *flags[:2])

    async def _is_queued(self) -> bool:
        found = await self._on.pods()
        given_up = [any(each.reason == "Unschedulable" for each in pod.status.conditions) for pod in found]
        return len(found) == len(JOBS) and sum(given_up) >= len(JOBS) - 1

    async def _overflow(self) -> None:
        self._teller.act(f"They wait for {WAITS_S} s, and leave")
        said = lines.Lines(self._part.log_path, self._teller, only=SHOWN)

        async def done() -> bool:
            said.show()
            found = await self._on.pods()
            return sum(pod.status.phase == "Succeeded" for pod in found) >= len(JOBS) - 1

        if not await self._within(LIMIT_S, done):
            self._bad("the Jobs did not complete")
        await self._command("kubectl", "get", "jobs")
        await self._command("kubectl", "get", "pods", "-l", "runpod.io/managed=true")
        gone = [pod for pod in await self._on.pods() if pod.spec.node_name == VIRTUAL]
        if not gone:
            self._bad("no pod is on the virtual node")
            return
        name = gone[0].metadata.name
        job = name.rpartition("-")[0]
        await self._command("kubectl", "logs", name)
        self._teller.act("What is told on the Job")
        told: list[str] = []
        await self._on.run(("kubectl", "get", "job", job, "-o", "json"), told.append, limit_s=story.COMMAND_LIMIT_S)
        self._teller.command(f"kubectl get job {job} -o jsonpath='{{.metadata.annotations}}'")
        for key, text in sorted(json.loads("\n".join(told))["metadata"]["annotations"].items()):
            if key.startswith(("runpod.io/", "bareboat.dev/")):
                self._teller.output(story.cut(f"{key}: {text}"))
        which, what = f"involvedObject.name={job},reason=Offloaded", "jsonpath={.items[*].message}"
        await self._wrapped("kubectl", "get", "events", "--field-selector", which, "-o", what)

    async def _wrapped(self, *words: str) -> None:
        """A command whose lines are long."""
        self._teller.command(textwrap.shorten(" ".join(words), WIDTH, placeholder=" …"))

        def show(line: str) -> None:
            for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False):
                self._teller.output(part)

        await self._on.run(words, show, limit_s=story.COMMAND_LIMIT_S)

    async def _gone(self) -> None:
        self._teller.act("Gone, machines and all")
        await self._command("kubectl", "delete", "jobs", *JOBS, "--wait=false")
        if not await self._within(story.END_LIMIT_S, self._is_clean):
            self._bad("something is left")

    async def _is_clean(self) -> bool:
        return not (await self._on.ledger())["running"]

    def _farewell(self) -> None:
        self._teller.say("")
        self._teller.say(f"All of it took {self._teller.elapsed_s:.0f} s.")
        self._teller.say("deploy/runpod-controller.yaml runs it on a cluster; docs/offload.md tells more.")
