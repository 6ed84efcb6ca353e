"""The demo of `bareboat provision`: a client's key and image become a pod that can be reached, on a rented GPU too."""

import base64
import json
import os
import shutil
from collections.abc import Mapping

from bareboat.cli.demo import stage, story
from bareboat.provision import manifests
from bareboat.sandbox import processes

IMAGE = "docker.io/looogarithm/mock-inference:latest"
GPU_IMAGE = "nginx"
GPU = {"count": 1, "names": ["RTX 3090", "RTX 4090"], "max_usd_per_hour": 0.4}
WAIT_S = 50
JSON = "-H 'Content-Type: application/json'"
NEW_LINE = " \\\n    "
"""Commands are shown as they would be typed, and fit."""


class Story(story.Story):
    """Two clients: one as the documentation shows it, one on a rented machine."""

    async def tell(self) -> int:
        self._teller.act("A control plane, a cloud, a node, and bareboat provision")
        stage.found_program("curl")
        await self._on.start()
        (port,) = processes.free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        self._service = self._on.part("provision", HOST="127.0.0.1", PORT=str(port), BAREBOAT_LOG_FORMAT="json")
        await self._on.until(self._serves, "bareboat provision serves")
        self._teller.part("bareboat provision", f"{self._url}, a page to try it included", 0.0)
        self._teller.act("A client's image and ssh key")
        asked = {"container_img_url": IMAGE, "ssh_public_key": a_key(), "port": 22}
        first = await self._post("request.json", asked)
        await self._command("kubectl", "get", "secret", manifests.SECRET)
        await self._command("kubectl", "get", "service,pod", "-l", manifests.CLIENT, "-o", "name")
        self._teller.say("There is no ordinary node here: this pod waits for one.")
        self._teller.act('Another client\'s, on a GPU: "gpu" in the body')
        body = {"container_img_url": GPU_IMAGE, "ssh_public_key": a_key(), "gpu": GPU}
        second = await self._post("gpu.json", body, f"?wait={WAIT_S}")
        if second.get("ready") is not True:
            self._bad(f"the pod is not ready: {second.get('reason') or second}")
        await self._command("kubectl", "get", "pods", "-l", manifests.CLIENT)
        self._teller.act("What there is, and what was rented")
        await self._told(f"curl -sS{NEW_LINE}{self._url}/provision/{second.get('pod_name')}")
        if self._plan.keep:
            await self._look_around()
        else:
            await self._removed(str(first.get("pod_name")), str(second.get("pod_name")))
        await self._books()
        self._farewell()
        return 0 if self._ok else 1

    def _serves(self) -> bool:
        return "provision.listening" in self._service.log_path.read_text(errors="replace")

    async def _post(self, name: str, body: Mapping[str, object], query: str = "") -> dict[str, object]:
        (self._on.folder / name).write_text(json.dumps(body, indent=2) + "\n")
        self._teller.command(f"cat {name}")
        for line in (self._on.folder / name).read_text().splitlines():
            self._teller.output(story.cut(line))
        return await self._told(f"curl -sS -X POST {self._url}/provision{query}{NEW_LINE}{JSON} -d @{name}")

    async def _told(self, command: str) -> dict[str, object]:
        """Runs a command in the demo's folder whose answer is JSON, shows it indented, and returns it."""
        pretty = "jq ." if shutil.which("jq") else "python3 -m json.tool"
        self._teller.command(f"{command} | {pretty}")
        answer: list[str] = []
        words = ("bash", "-c", f"cd {self._on.folder} && {command} | {pretty}")
        await self._on.run(words, answer.append, limit_s=WAIT_S + 10.0)
        for line in answer:
            self._teller.output(story.cut(line))
        try:
            told = json.loads("\n".join(answer))
        except ValueError:
            self._bad("the service gave no answer")
            return {}
        return told if isinstance(told, dict) else {}

    async def _removed(self, *names: str) -> None:
        self._teller.act("Gone, machine and all")
        for name in names:
            await self._told(f"curl -sS -X DELETE{NEW_LINE}{self._url}/provision/{name}")
        if not await self._within(story.END_LIMIT_S, self._all_gone):
            self._bad("something is left")
        await self._command("kubectl", "get", "secret,service,pod", "-l", manifests.CLIENT)

    def _farewell(self) -> None:
        self._teller.say("")
        self._teller.say(f"All of it took {self._teller.elapsed_s:.0f} s.")
        self._teller.say("deploy/examples/provision.yaml runs it on a cluster; docs/provision.md tells more.")


def a_key() -> str:
    """An ssh key that nobody has the other half of."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + os.urandom(32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} client@example"
