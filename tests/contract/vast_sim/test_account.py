"""Templates, ssh keys, secrets, charges and logs."""

from typing import Any

import pytest
from tests.contract.vast_sim import api

from bareboat.clouds.vast.sim import templates

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me"
TEMPLATE = {
    "name": "my_template",
    "image": "busybox",
    "tag": "1.36",
    "env": '-e A=b -e C="d e" -p 8001:8001',
    "args_str": "sleep 100",
    "docker_login_repo": "docker.io",
    "docker_login_user": "robot",
    "docker_login_pass": "opensesame",
    "recommended_disk_space": 20,
}


async def a_template(vast: api.Vast, **changed: Any) -> dict[str, Any]:
    reply = await vast.call("POST", "/api/v0/template/", {**TEMPLATE, **changed})
    assert reply.body["success"]
    made: dict[str, Any] = reply.body["template"]
    return made


async def test_a_template_is_found_by_its_name_and_hides_its_password(vast: api.Vast) -> None:
    made = await a_template(vast)
    reply = await vast.call(
        "GET", "/api/v0/template/", select_filters={"name": {"eq": "my_template"}}, select_cols=["*"]
    )
    [template] = reply.body["templates"]
    assert reply.body["templates_found"] == 1
    assert (template["id"], template["hash_id"]) == (made["id"], made["hash_id"])
    assert len(template["hash_id"]) == 32
    assert "docker_login_pass" not in template


async def test_the_same_content_gives_the_same_template(vast: api.Vast) -> None:
    assert await a_template(vast) == await a_template(vast)


async def test_an_edit_keeps_the_id_and_changes_the_hash(vast: api.Vast) -> None:
    made = await a_template(vast)
    edited = (await vast.call("PUT", "/api/v0/template/", {"hash_id": made["hash_id"], "tag": "1.37"})).body["template"]
    assert edited["id"] == made["id"]
    assert edited["hash_id"] != made["hash_id"]
    assert (await vast.create(31870033, template_hash_id=made["hash_id"])).status == 404


async def test_a_template_can_be_deleted_once(vast: api.Vast) -> None:
    made = await a_template(vast)
    assert (await vast.call("DELETE", "/api/v0/template/", {"template_id": made["id"]})).body["success"]
    assert (await vast.call("DELETE", "/api/v0/template/", {"template_id": made["id"]})).status == 404


async def test_a_create_takes_what_it_leaves_out_from_the_template(vast: api.Vast) -> None:
    made = await a_template(vast)
    body = {
        "client_id": "me",
        "template_hash_id": made["hash_id"],
        "image": None,
        "onstart": None,
        "env": {"A": "mine"},
    }
    reply = await vast.call("PUT", "/api/v0/asks/31870033/", body)
    record = await vast.show(reply.body["new_contract"])
    assert record is not None
    assert record["image_uuid"] == "busybox:1.36"
    assert record["image_args"] == ["sleep", "100"]
    assert record["disk_space"] == 20
    assert dict(record["extra_env"]) == {"A": "mine", "C": "d e", "-p 8001:8001": "1"}
    assert (record["template_id"], record["template_hash_id"]) == (made["id"], made["hash_id"])
    assert record["template_name"] == "my_template"


async def test_the_stored_login_of_a_template_pulls_a_private_image(vast: api.Vast) -> None:
    made = await a_template(vast, image="bareboat/private", tag="1", args_str="")
    reply = await vast.call("PUT", "/api/v0/asks/31870033/", {"template_hash_id": made["hash_id"]})
    assert await vast.status(reply.body["new_contract"]) == "running"


async def test_an_instance_keeps_the_hash_it_was_created_from(vast: api.Vast) -> None:
    made = await a_template(vast)
    instance_id = await vast.rented(31870033, image=None, template_hash_id=made["hash_id"])
    await vast.call("PUT", "/api/v0/template/", {"hash_id": made["hash_id"], "tag": "1.37"})
    record = await vast.show(instance_id)
    assert record is not None
    assert record["template_hash_id"] == made["hash_id"]


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("", {}),
        ("-e A=b -p 80:80", {"A": "b", "-p 80:80": "1"}),
        ("-e A='b c' -e D=\"e=f\"", {"A": "b c", "D": "e=f"}),
        ("-p 5000:5000/udp -h box", {"-p 5000:5000/udp": "1", "-h": "box"}),
        ("--gpus all -e NOTHING -p 80;80 -e OK=1", {"OK": "1"}),
        ("-e 'unclosed=1", {"'unclosed": "1"}),
    ],
)
def test_docker_flags_of_a_template_become_an_object(text: str, env: dict[str, str]) -> None:
    assert templates.parse_env(text) == env


async def test_ssh_keys_are_a_404_until_there_is_one(vast: api.Vast) -> None:
    assert (await vast.call("GET", "/api/v0/ssh/")).status == 404
    made = (await vast.call("POST", "/api/v0/ssh/", {"ssh_key": KEY})).body["key"]
    assert [key["public_key"] for key in (await vast.call("GET", "/api/v0/ssh/")).body] == [KEY]
    assert (await vast.call("POST", "/api/v0/ssh/", {"ssh_key": "hello"})).status == 400
    assert (await vast.call("DELETE", f"/api/v0/ssh/{made['id']}/", {})).body["success"]


async def test_a_key_can_be_attached_to_an_instance(vast: api.Vast) -> None:
    path = f"/api/v0/instances/{await vast.rented()}/ssh/"
    assert (await vast.call("POST", path, {"ssh_key": KEY})).body["success"]
    [key] = (await vast.call("GET", path)).body["ssh_keys"]
    assert (await vast.call("DELETE", f"{path}{key['id']}/", {})).body["success"]


async def test_secrets_can_be_set_and_are_never_shown(vast: api.Vast) -> None:
    await vast.call("POST", "/api/v0/secrets/", {"key": "HF_TOKEN", "value": "hush"})
    listed = await vast.call("GET", "/api/v0/secrets/")
    assert listed.body["secrets"] == {"HF_TOKEN": "*****"}
    assert (await vast.call("DELETE", "/api/v0/secrets/", {"key": "HF_TOKEN"})).body["success"]
    assert (await vast.call("DELETE", "/api/v0/secrets/", {"key": "HF_TOKEN"})).status == 404


async def test_charges_tell_what_a_label_cost_even_after_its_end(vast: api.Vast) -> None:
    instance_id = await vast.rented(31870033, label="bareboat/c/pod/1")
    await vast.clock.advance(3600)
    await vast.call("DELETE", f"/api/v0/instances/{instance_id}/", {})
    day = {"day": {"gte": vast.clock.now_s() - 86_400, "lte": vast.clock.now_s()}}
    reply = await vast.call("GET", "/api/v0/charges/", select_filters=day, format="table")
    [charge] = reply.body["results"]
    assert charge["metadata"]["label"] == "bareboat/c/pod/1"
    assert charge["source"] == f"instance-{instance_id}"
    assert charge["amount"] == pytest.approx(0.3357, rel=0.05)
    assert {item["type"] for item in charge["items"]} == {"gpu", "disk"}
    assert (await vast.call("GET", "/api/v0/charges/")).status == 400


async def test_invoices_out_of_range_answer_200_without_success(vast: api.Vast) -> None:
    reply = await vast.call("GET", "/api/v1/invoices/")
    assert (reply.status, reply.body["success"]) == (200, False)


# -- logs


async def test_logs_lie_on_another_origin_and_need_no_key(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    reply = await vast.call("PUT", f"/api/v0/instances/request_logs/{instance_id}/", {"tail": "10"})
    assert not reply.body["result_url"].startswith(vast.sim.url)
    result = await vast.call("GET", reply.body["result_url"], key=None)
    assert result.status == 200
    assert "busybox" in result.text


@pytest.mark.parametrize("status", [403, 404])
async def test_a_result_is_missing_for_some_tries(vast: api.Vast, status: int) -> None:
    vast.control.add_fault("logs_late", {"count": 1, "tries": [2, 2], "status": status, "never": 0})
    instance_id = await vast.rented()
    reply = await vast.call("PUT", f"/api/v0/instances/request_logs/{instance_id}/", {})
    reads = [(await vast.call("GET", reply.body["result_url"], key=None)).status for _ in range(3)]
    assert reads == [status, status, 200]


async def test_before_there_is_a_container_the_log_says_so() -> None:
    async with api.served(plan=api.QUIET) as vast:
        instance_id = await vast.rented(image="vllm/vllm-openai:latest")
        assert "No such file or directory" in (await vast.logs(instance_id)).text
        await vast.clock.advance(25)
        assert (
            await vast.logs(instance_id)
        ).text == f"Error response from daemon: No such container: C.{instance_id}\n"
        assert "Pulling fs layer" in (await vast.logs(instance_id, daemon_logs="true")).text


async def test_logs_can_be_filtered_and_cut(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    lines = (await vast.logs(instance_id, daemon_logs="true")).text.splitlines()
    assert len(lines) > 2
    assert (await vast.logs(instance_id, daemon_logs="true", tail="1")).text.splitlines() == lines[-1:]
    found = (await vast.logs(instance_id, daemon_logs="true", filter="layer")).text.splitlines()
    assert found == [line for line in lines if "layer" in line]


async def test_logs_of_an_unknown_instance_are_a_404(vast: api.Vast) -> None:
    reply = await vast.call("PUT", "/api/v0/instances/request_logs/1/", {})
    assert (reply.status, reply.body["error"]) == (404, "invalid_id")


@pytest.mark.parametrize(
    ("command", "status"), [("ls -l /", 200), ("rm x", 200), ("bash -c id", 400), ("ls " * 300, 400)]
)
async def test_only_three_commands_can_be_executed(vast: api.Vast, command: str, status: int) -> None:
    instance_id = await vast.rented()
    reply = await vast.call("PUT", f"/api/v0/instances/command/{instance_id}/", {"command": command})
    assert reply.status == status
