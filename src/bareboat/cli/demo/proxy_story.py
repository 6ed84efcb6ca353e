"""The demo of `bareboat proxy`: an instance from a template behind nginx, its end and its replacement."""

import asyncio
import time
from pathlib import Path

from bareboat.cli.demo import lines, stage, story
from bareboat.sandbox import processes

POD_NAME = "vast-pod-0"
TEMPLATE = "my-web"
IMAGE = "nginx"
QUERY = "num_gpus=1 gpu_name in [RTX_3090,RTX_4090] direct_port_count>=1 dph<0.6"
READY_LIMIT_S = 40.0
POLL_S = 0.1
QUIET = ("cloud.looked", "instance.awaited")


class Story(story.Story):
    """One pod of a StatefulSet, from its first container to `bareboat proxy destroy`."""

    async def tell(self) -> int:
        self._teller.act("A simulated Vast.ai, and a template in your account")
        nginx = stage.found_program("nginx")
        curl = stage.found_program("curl")
        await self._on.start(cluster=False)
        made = await self._on.vast("POST", "api/v0/template/", {"name": TEMPLATE, "image": IMAGE, "env": "-p 80:80"})
        self._template = str(made["template"]["hash_id"])
        self._teller.part("Template", f"{TEMPLATE}: image {IMAGE}, docker options -p 80:80", 0.0)
        self._teller.act("The container of a pod: its environment, and bareboat proxy")
        variables = self._variables(nginx)
        for name in ("POD_NAME", "VAST_TEMPLATE_NAME", "VAST_TEMPLATE_IMAGE", "VAST_SEARCH_QUERY", "NGINX_LISTEN_PORT"):
            self._teller.line(f"  {name}={variables[name]}"[:80])
        self._begin(variables)
        await self._until_said("proxy.ready", 0)
        await self._curl(curl, variables)
        await self._loss(curl, variables)
        await self._edit()
        await self._curl(curl, variables)
        if self._plan.keep:
            await self._kept(variables)
        else:
            await self._end(variables)
        await self._books()
        self._farewell()
        return 0 if self._ok else 1

    def _variables(self, nginx: str) -> dict[str, str]:
        web, health = processes.free_ports(2)
        folder = self._on.folder
        return {
            "POD_NAME": POD_NAME,
            "VAST_TEMPLATE_NAME": TEMPLATE,
            "VAST_TEMPLATE_IMAGE": IMAGE,
            "VAST_SEARCH_QUERY": QUERY,
            "DOCKER_LOGIN": "-u robot -p opensesame docker.io",
            "NGINX_LISTEN_PORT": str(web),
            "NGINX_CONFIG_PATH": str(folder / "http.d" / "default.conf"),
            "VAST_VISIBILITY_WINDOW_S": "1",
            "BAREBOAT_LOG_FORMAT": "json",
            "BAREBOAT_CLUSTER_ID": "demo",
            "BAREBOAT_PROXY_NGINX": nginx,
            "BAREBOAT_PROXY_LISTEN_ADDRESS": "127.0.0.1",
            "BAREBOAT_PROXY_HEALTH_PORT": str(health),
            "BAREBOAT_PROXY_STATE_DIR": str(folder / "state"),
            "BAREBOAT_PROXY_POLL_S": "0.5",
            "BAREBOAT_PROXY_BUSY_POLL_S": "0.2",
            "BAREBOAT_PROXY_TEMPLATE_S": "1",
        }

    def _begin(self, variables: dict[str, str]) -> None:
        self._teller.command("bareboat proxy")
        self._part = self._on.part("proxy", **variables)
        self._lines = lines.Lines(self._part.log_path, self._teller, without=QUIET)

    async def _until_said(self, event: str, before: int) -> None:
        """Shows the log until the event has come once more than so often."""
        give_up_s = time.monotonic() + READY_LIMIT_S
        while self._lines.said.count(event) <= before:
            if time.monotonic() > give_up_s:
                end = processes.log_end(self._part.log_path)
                raise stage.Failed(f"no {event} within {READY_LIMIT_S:.0f} s; {self._part.log_path} ends:\n{end}")
            await asyncio.sleep(POLL_S)
            self._lines.show()

    async def _curl(self, curl: str, variables: dict[str, str]) -> None:
        url = f"http://127.0.0.1:{variables['NGINX_LISTEN_PORT']}/"
        words = (Path(curl).name, "-sS", url)
        self._teller.command(" ".join(words))
        if await self._on.run(words, lambda line: self._teller.output(story.cut(line)), limit_s=10.0) != 0:
            self._bad("nginx does not answer")
        await asyncio.sleep(self._teller.reading_s)

    async def _loss(self, curl: str, variables: dict[str, str]) -> None:
        self._teller.act("Somebody destroys the instance")
        before, reloads = (self._lines.said.count(event) for event in ("proxy.ready", "nginx.reloaded"))
        await self._on.vast("POST", "control/vanish", {"instance_id": await self._instance()})
        await self._until_said("nginx.reloaded", reloads)
        await self._curl(curl, variables)
        await self._until_said("proxy.ready", before)
        await self._curl(curl, variables)

    async def _edit(self) -> None:
        self._teller.act("You edit the template")
        before = self._lines.said.count("proxy.ready")
        await self._on.vast("PUT", "api/v0/template/", {"hash_id": self._template, "env": "-e COLOUR=blue -p 80:80"})
        self._teller.part("Template", f"{TEMPLATE}: docker options -e COLOUR=blue -p 80:80", 0.0)
        await self._until_said("proxy.ready", before)

    async def _instance(self) -> int:
        running = (await self._on.ledger())["running"]
        if len(running) != 1:
            raise stage.Failed(f"one instance was to be rented, there are {len(running)}")
        return int(running[0])

    async def _end(self, variables: dict[str, str]) -> None:
        self._teller.act("The container stops, the instance stays; then it ends on the word")
        self._teller.command("kill -TERM 1")
        code = await self._on.end(self._part)
        self._lines.show()
        self._teller.say(f"Exit code {code}; still rented: {len((await self._on.ledger())['running'])}.")
        self._on.environment.update(variables, BAREBOAT_LOG_LEVEL="warning")
        if await self._command("bareboat", "proxy", "destroy", limit_s=READY_LIMIT_S) != 0:
            self._bad("the instance could not be destroyed")

    async def _kept(self, variables: dict[str, str]) -> None:
        self._teller.act("Everything stays up until Ctrl-C")
        self._teller.line(f"  curl http://127.0.0.1:{variables['NGINX_LISTEN_PORT']}/")
        self._teller.line(f"  curl http://127.0.0.1:{variables['BAREBOAT_PROXY_HEALTH_PORT']}/readyz")
        self._teller.line(f"  tail -f {self._part.log_path}")
        self.looking.set()
        await self.looked.wait()

    def _farewell(self) -> None:
        self._teller.say("")
        self._teller.say(f"All of it took {self._teller.elapsed_s:.0f} s.")
        self._teller.say("deploy/examples/proxy-statefulset.yaml runs it on a cluster; docs/proxy.md tells more.")
