"""Templates: stored launches whose hash is that of their content, and how one is merged into a create."""

import hashlib
import itertools
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from bareboat.clouds.vast.sim import account, filters, replies

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

Template = dict[str, Any]

CONTENT: Mapping[str, Any] = {
    "name": "",
    "image": "",
    "tag": "",
    "env": "",
    "onstart": "",
    "runtype": "args",
    "args_str": "",
    "use_ssh": False,
    "ssh_direct": False,
    "jup_direct": False,
    "jupyter_dir": None,
    "use_jupyter_lab": False,
    "docker_login_repo": "",
    "docker_login_user": "",
    "docker_login_pass": "",
    "extra_filters": {},
    "recommended_disk_space": 8,
    "desc": "",
    "readme": "",
    "readme_visible": True,
    "href": "",
    "repo": "",
    "private": True,
    "volume_info": None,
}
"""What a template consists of, with Vast's defaults; its hash covers exactly this."""

FILTERABLE = frozenset(
    [
        "creator_id",
        "created_at",
        "count_created",
        "default_tag",
        "docker_login_repo",
        "id",
        "image",
        "jup_direct",
        "hash_id",
        "private",
        "name",
        "recent_create_date",
        "recommended_disk_space",
        "recommended",
        "ssh_direct",
        "tag",
        "use_ssh",
    ]
)
FIRST_ID = 240_001
PUBLIC = (
    {"name": "PyTorch (Vast)", "image": "vastai/pytorch", "tag": "latest", "runtype": "jupyter", "private": False},
    {
        "name": "NVIDIA CUDA",
        "image": "nvidia/cuda",
        "tag": "12.4.1-runtime-ubuntu22.04",
        "runtype": "ssh",
        "private": False,
    },
)


class Templates:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._templates: list[Template] = []
        self._next_id = FIRST_ID
        for content in PUBLIC:
            self._add(content, creator_id=1)

    # -- routes

    async def list(self, request: web.Request) -> web.Response:
        conditions = replies.json_argument(request, "select_filters", {})
        chosen = [self._shown(template) for template in self._templates if _visible(template)]
        for column, given in (conditions or {}).items():
            if column not in FILTERABLE:
                msg = f"Error in query parameters: {column} is not a valid search key"
                raise replies.Refused(400, "invalid_request", msg)
            tests = filters.tests(column, given)
            chosen = [template for template in chosen if all(test(template.get(column)) for test in tests)]
        order = request.query.get("order_by", "").strip('"')
        if order in FILTERABLE:
            chosen.sort(key=lambda template: str(template.get(order)))
        columns = replies.json_argument(request, "select_cols", ["*"])
        if columns and "*" not in columns:
            chosen = [{column: template.get(column) for column in columns} for template in chosen]
        return replies.as_json({"success": True, "templates_found": len(chosen), "templates": chosen})

    async def create(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        for key in ("name", "image"):
            if not isinstance(body.get(key), str) or not body[key].strip():
                raise replies.Refused(400, "missing_input", f"{key} is required")
        return self._answer(self._add(body, creator_id=account.USER_ID), "Created")

    async def edit(self, request: web.Request) -> web.Response:
        """Partial; the id stays and the hash changes with the content."""
        body = await replies.json_body(request)
        template = self._by("hash_id", body.get("hash_id"))
        template.update({key: value for key, value in body.items() if key in CONTENT and value is not None})
        template["hash_id"] = _hash(template)
        return self._answer(template, "Updated")

    async def delete(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        key = "template_id" if body.get("template_id") is not None else "hash_id"
        self._templates.remove(self._by("id" if key == "template_id" else key, body.get(key)))
        return replies.as_json({"success": True, "msg": "Template deleted."})

    # -- what a create needs

    def merged(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The body with the template's values under it, and the template's identity for the instance's record."""
        body = {key: value for key, value in given.items() if value is not None}
        hash_id = body.get("template_hash_id")
        if not hash_id:
            return body, {}
        template = self._by("hash_id", hash_id)
        template["count_created"] += 1
        template["recent_create_date"] = self._sim.estate.clock.now_s()
        if not self._sim.switches.template_false_overrides:
            body = {key: value for key, value in body.items() if value is not False}
        image = f"{template['image']}:{template['tag']}" if template["tag"] else template["image"]
        stored: dict[str, Any] = {
            "image": image,
            "onstart": template["onstart"] or None,
            "args_str": template["args_str"] or None,
            "runtype": _runtype(template),
            "disk": max(8, template["recommended_disk_space"] or 8),
            "image_login": _login(template),
        }
        merged = {**{key: value for key, value in stored.items() if value is not None}, **body}
        env = body.get("env") if isinstance(body.get("env"), Mapping) else {}
        merged["env"] = {**parse_env(template["env"]), **(env or {})}
        identity = {
            "template_id": template["id"],
            "template_hash_id": template["hash_id"],
            "template_name": template["name"],
        }
        return merged, identity

    # -- how

    def _add(self, given: Mapping[str, Any], creator_id: int) -> Template:
        content = {**CONTENT, **{key: given[key] for key in CONTENT if given.get(key) is not None}}
        image, colon, tag = content["image"].rpartition(":")
        if colon and "/" not in tag and not content["tag"]:
            content.update(image=image, tag=tag)
        hash_id = _hash(content)
        for known in self._templates:
            if known["hash_id"] == hash_id and known["creator_id"] == creator_id:
                return known
        template: Template = {
            **content,
            "id": self._next_id,
            "hash_id": hash_id,
            "default_tag": content["tag"],
            "creator_id": creator_id,
            "created_at": self._sim.estate.clock.now_s(),
            "count_created": 0,
            "recent_create_date": None,
            "recommended": creator_id == 1,
        }
        self._next_id += 1
        self._templates.append(template)
        return template

    def _by(self, key: str, value: Any) -> Template:
        for template in self._templates:
            if value is not None and template[key] == value:
                return template
        raise replies.Refused(404, "not_found", "Template not found")

    def _shown(self, template: Template) -> Template:
        if self._sim.switches.template_shows_password:
            return dict(template)
        return {key: value for key, value in template.items() if key != "docker_login_pass"}

    def _answer(self, template: Template, verb: str) -> web.Response:
        """The CLI tells a success by the words up to the colon, an edit by no more than `success`."""
        msg = f"Template {verb} Successfully! New Template ID: {template['id']}"
        named = {key: template[key] for key in ("id", "hash_id", "name")}
        return replies.as_json({"success": True, "msg": msg, "template": named})


def parse_env(text: str) -> dict[str, str]:
    """Docker flags as in a template (`-e A=b -p 80:80`) → the object of a create. What it can't read it ignores."""
    try:
        words = shlex.split(text or "")
    except ValueError:
        words = (text or "").split()
    env: dict[str, str] = {}
    for flag, value in itertools.pairwise(words):
        if flag == "-e" and "=" in value:
            key, _, rest = value.partition("=")
            env[key] = rest
        elif flag == "-p" and value and set(value) <= set("0123456789:tcp/udp"):
            env[f"-p {value}"] = "1"
        elif flag in ("-v", "-n"):
            env[f"{flag} {value}"] = "1"
        elif flag == "-h":
            env["-h"] = value
    return env


def _visible(template: Template) -> bool:
    return template["creator_id"] == account.USER_ID or not template["private"]


def _hash(content: Mapping[str, Any]) -> str:
    covered = {key: content[key] for key in CONTENT}
    return hashlib.md5(msgspec.json.encode(covered, order="sorted"), usedforsecurity=False).hexdigest()


def _runtype(template: Template) -> str:
    kind = str(template["runtype"] or "args")
    if kind == "ssh" and template["ssh_direct"]:
        return "ssh_direct"
    if kind == "jupyter" and template["jup_direct"]:
        return "jupyter_direct"
    return kind


def _login(template: Template) -> str | None:
    if not template["docker_login_user"]:
        return None
    host = template["docker_login_repo"] or "docker.io"
    return f"-u {template['docker_login_user']} -p {template['docker_login_pass']} {host}"
