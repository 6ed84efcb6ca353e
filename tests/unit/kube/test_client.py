"""Requests, errors by what to do next, and what is tried again."""

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from tests.unit.kube import fakeapi

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import credentials, errors, objects, resources
from bareboat.plumbing import clock as clocks

POD = resources.PODS.path("t", "a")


def answering(response: web.Response) -> fakeapi.Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        # A response object can be sent once only.
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    return handler


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ApiError),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (422, errors.Invalid),
        (429, errors.TooManyRequests),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (302, errors.ApiError),
    ],
)
async def test_refusals_become_errors_with_verb_path_and_reason(
    api: fakeapi.FakeApi, client: clients.Client, status: int, kind: type[errors.ApiError]
) -> None:
    api.script.append(answering(fakeapi.refusal(status, "SomeReason", "because of this")))
    with pytest.raises(kind) as caught:
        await client.patch(POD, {})
    assert type(caught.value) is kind
    assert str(caught.value) == f"PATCH {POD}: {status} SomeReason: because of this"
    assert (caught.value.verb, caught.value.path, caught.value.status) == ("PATCH", POD, status)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (422, 'Pod "a" is invalid: metadata.uid: Invalid value: "x": field is immutable'),
        (409, "Operation cannot be fulfilled on Pod: the UID in the precondition (x) does not match the UID in record"),
        (409, "StorageError: invalid object: Precondition failed: UID in precondition: x, UID in object meta: y"),
    ],
    ids=["status write", "delete", "binding"],
)
async def test_a_namesake_is_recognised_and_caught_as_either_kind(
    api: fakeapi.FakeApi, client: clients.Client, status: int, message: str
) -> None:
    api.script.append(answering(fakeapi.refusal(status, "X", message)))
    with pytest.raises(errors.OtherObject) as caught:
        await client.patch(POD, {})
    assert isinstance(caught.value, errors.Invalid) and isinstance(caught.value, errors.Conflict)


async def test_other_invalid_objects_and_conflicts_are_no_namesakes(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    api.script += [
        answering(fakeapi.refusal(422, "Invalid", "spec.containers: field is immutable")),
        answering(fakeapi.refusal(409, "AlreadyExists", 'pods "a" already exists')),
    ]
    with pytest.raises(errors.Invalid) as invalid:
        await client.patch(POD, {})
    assert not isinstance(invalid.value, errors.OtherObject)
    with pytest.raises(errors.Conflict) as conflict:
        await client.create(resources.PODS.path("t"), {})
    assert conflict.value.already_exists


async def test_a_proxys_error_page_is_clipped_and_readable(api: fakeapi.FakeApi, client: clients.Client) -> None:
    page = web.Response(status=502, text="<html>bad gateway</html>" + "x" * 100_000)
    api.script.append(answering(page))
    with pytest.raises(errors.ServerError, match="502 -: <html>bad gateway") as caught:
        await client.patch(POD, {})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_reads_are_tried_again(api: fakeapi.FakeApi, client: clients.Client, status: int) -> None:
    api.script += [answering(fakeapi.refusal(status))] * 2
    assert (await client.get(POD, type=objects.Metadata)).metadata.name == "a"
    assert client.sent == {"GET": 3}


async def test_reads_are_given_up_after_three_tries(api: fakeapi.FakeApi, client: clients.Client) -> None:
    api.script += [answering(fakeapi.refusal(503))] * 10
    with pytest.raises(errors.ServerError):
        await client.get(POD)
    assert api.count("GET") == 3


async def test_a_read_that_is_refused_is_not_tried_again(api: fakeapi.FakeApi, client: clients.Client) -> None:
    api.script += [answering(fakeapi.refusal(404))] * 2
    with pytest.raises(errors.NotFound):
        await client.get(POD)
    assert api.count("GET") == 1


@pytest.mark.parametrize("verb", ["create", "patch", "replace", "delete"])
async def test_writes_are_sent_once(api: fakeapi.FakeApi, client: clients.Client, verb: str) -> None:
    api.script += [answering(fakeapi.refusal(503))] * 2
    call = getattr(client, verb)
    with pytest.raises(errors.ServerError):
        await (call(POD) if verb == "delete" else call(POD, {}))
    assert len(api.requests) == 1


async def test_a_write_whose_connection_breaks_is_unreachable_and_sent_once(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    await client.get(POD)
    api.script.append(cut)
    with pytest.raises(errors.Unreachable, match="PATCH /api/v1/namespaces/t/pods/a"):
        await client.patch(POD, {})
    assert api.count("PATCH") == 1


async def test_retry_after_is_read_from_header_or_body(api: fakeapi.FakeApi, client: clients.Client) -> None:
    in_body = {"kind": "Status", "reason": "TooManyRequests", "message": "m", "details": {"retryAfterSeconds": 3}}
    api.script += [
        answering(fakeapi.refusal(429, Retry_After="7")),
        answering(web.json_response(in_body, status=429)),
        answering(fakeapi.refusal(429)),
    ]
    for expected in (7.0, 3.0, None):
        with pytest.raises(errors.TooManyRequests) as caught:
            await client.patch(POD, {})
        assert caught.value.after_s == expected


async def test_a_server_that_is_silent_is_a_timeout(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    api.script += [hang] * 2
    started_s = time.monotonic()
    with pytest.raises(errors.Timeout, match=r"no answer within 0\.2 s"):
        await client.get(POD, timeout_s=0.2)
    assert time.monotonic() - started_s < 1.5
    assert api.count("GET") == 1, "a timeout is not tried again: the caller's time is up"


async def test_nobody_there_is_unreachable_and_names_the_server() -> None:
    config = configs.Config(server="http://127.0.0.1:9", ssl=None, credentials=credentials.Fixed(), where="a test")
    async with clients.Client(config) as client:
        with pytest.raises(errors.Unreachable, match=r"http://127\.0\.0\.1:9 can't be reached"):
            await client.create(POD, {})


async def test_an_answer_of_another_shape_is_malformed(api: fakeapi.FakeApi, client: clients.Client) -> None:
    api.script.append(answering(web.Response(text="[]")))
    with pytest.raises(errors.Malformed, match=r"/pods/a: the answer is not what was asked for"):
        await client.get(POD, type=objects.Metadata)


async def test_refused_credentials_are_renewed_once(api: fakeapi.FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    async def check(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer new":
            return fakeapi.refusal(401, "Unauthorized", "Unauthorized")
        return web.json_response({"metadata": {"name": "a"}})

    api.script += [check] * 3
    async with clients.Client(api.config(credentials.TokenFile(file, clocks.ManualClock()))) as client:
        with pytest.raises(errors.Unauthorized):
            await client.patch(POD, {})
        assert len(api.requests) == 1, "the file still says the same"
        file.write_text("new\n")
        await client.patch(POD, {})
    assert len(api.requests) == 3


async def test_requests_refused_together_renew_the_credentials_once(api: fakeapi.FakeApi) -> None:
    arrived, all_in = 0, asyncio.Event()

    class Counting(credentials.Fixed):
        renewals = 0

        async def authorization(self) -> str | None:
            return f"Bearer {self.renewals}"

        async def renew(self) -> bool:
            self.renewals += 1
            return True

    async def check(request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            all_in.set()
        await all_in.wait()
        if request.headers["Authorization"] != "Bearer 1":
            return fakeapi.refusal(401, "Unauthorized", "Unauthorized")
        return web.json_response({"metadata": {}})

    identity = Counting()
    api.script += [check] * 40
    async with clients.Client(api.config(identity)) as client:
        await asyncio.gather(*(client.patch(POD, {}) for _ in range(20)))
    assert identity.renewals == 1 and len(api.requests) == 40


async def test_patches_name_their_kind_and_field_manager(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await client.patch(POD, b"{}", clients.Patch.APPLY, field_manager="us", force=True)
    await client.patch(POD, objects.Status(code=1))
    assert api.requests[0] == ("PATCH", f"{POD}?fieldManager=us&force=true")
    kinds = [headers["Content-Type"] for headers in api.headers]
    assert kinds == ["application/apply-patch+yaml", "application/strategic-merge-patch+json"]
    assert api.bodies == [b"{}", b'{"code":1}']


async def test_a_delete_carries_its_preconditions_and_grace(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await client.delete(POD, uid="u", grace_s=0, propagation="Background")
    await client.delete(POD)
    assert json.loads(api.bodies[0]) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u"},
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
    }
    assert json.loads(api.bodies[1]) == {"apiVersion": "v1", "kind": "DeleteOptions"}


async def test_a_binding_carries_uid_version_and_annotations(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await client.bind("t", "a", "node-1", uid="u", resource_version="5", annotations={"k": "v"}, labels={"l": "w"})
    assert api.requests == [("POST", f"{POD}/binding")]
    body = json.loads(api.bodies[0])
    assert body["target"] == {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
    assert body["metadata"] == {
        "name": "a",
        "namespace": "t",
        "uid": "u",
        "resourceVersion": "5",
        "annotations": {"k": "v"},
        "labels": {"l": "w"},
    }


async def test_a_token_is_bound_to_its_pod_and_never_lasts_a_year(api: fakeapi.FakeApi, client: clients.Client) -> None:
    api.script.append(
        answering(web.json_response({"status": {"token": "tok", "expirationTimestamp": "2027-01-01T00:00:00Z"}}))
    )
    token = await client.token("t", "default", expiration_s=600, audiences=["vault"], pod="a", pod_uid="u")
    assert token.token == "tok"
    spec = json.loads(api.bodies[0])["spec"]
    assert spec == {
        "expirationSeconds": 600,
        "audiences": ["vault"],
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"},
    }
    with pytest.raises(ValueError, match="3607"):
        await client.token("t", "default", expiration_s=3607)
    assert len(api.requests) == 1


async def test_a_list_says_how_to_go_on(api: fakeapi.FakeApi, client: clients.Client) -> None:
    for name in "abc":
        await api.put(name)
    first = await client.list(fakeapi.PODS, item=objects.Metadata, limit=2, label_selector="x=y")
    rest = await client.list(fakeapi.PODS, item=objects.Metadata, limit=2, continue_=first.metadata.continue_)
    names = [item.metadata.name for page in (first, rest) for item in page.items or []]
    assert names == ["a", "b", "c"] and rest.metadata.continue_ == ""
    assert "labelSelector=x%3Dy" in api.requests[0][1]


async def test_watches_take_no_slots_from_requests(api: fakeapi.FakeApi) -> None:
    client = clients.Client(api.config(), connections=1, timeout_s=5)

    async def watch() -> None:
        async with client.watch(fakeapi.PODS, {"resourceVersion": "100"}) as lines:
            async for _ in lines:
                return

    async with client, asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(watch())
        await fakeapi.until(lambda: len(api.open_watches) == 5, "five watches")
        await client.get(POD)
        await api.put("a")


async def test_requests_wait_for_a_slot_of_the_pool(api: fakeapi.FakeApi) -> None:
    together = 0
    most = 0
    three = asyncio.Barrier(3)

    async def slow(_request: web.Request) -> web.StreamResponse:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await three.wait()
        together -= 1
        return web.json_response({"metadata": {}})

    api.script += [slow] * 21
    async with clients.Client(api.config(), connections=3) as client:
        await asyncio.gather(*(client.patch(POD, {}) for _ in range(21)))
    assert most == 3


async def test_a_watchs_lines_are_whole_however_the_bytes_arrive(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def dribble(request: web.Request) -> web.StreamResponse:
        response = await api.start_watch(request)
        for piece in (b'{"a"', b":1}\n{", b'"b":2}\n\n{"c":3}', b"\n"):
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    api.watch_script.append(dribble)
    async with client.watch(fakeapi.PODS, {}) as lines:
        assert [line async for line in lines] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


async def test_a_flood_of_events_arrives_whole_and_in_order(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = await api.start_watch(request)
        for number in range(2000):
            await response.write(b"%d %s\n" % (number, b"x" * 8000))
        return response

    api.watch_script.append(flood)
    async with asyncio.timeout(20), client.watch(fakeapi.PODS, {}) as lines:
        seen = [int(line.split()[0]) async for line in lines]
    assert seen == list(range(2000))


async def test_a_watch_that_is_refused_raises_before_the_first_line(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(403, "Forbidden", "pods is forbidden")

    api.watch_script.append(refuse)
    with pytest.raises(errors.Forbidden, match="WATCH /api/v1/pods: 403"):
        async with client.watch(fakeapi.PODS, {}):
            pass


async def test_a_path_before_the_api_is_kept(api: fakeapi.FakeApi) -> None:
    config = api.config()
    config.server += "/k8s/clusters/c-1"
    async with clients.Client(config) as client:
        await client.get(POD)
    assert api.requests == [("GET", f"/k8s/clusters/c-1{POD}")]


async def test_a_closed_client_says_so(api: fakeapi.FakeApi) -> None:
    client = clients.Client(api.config())
    with pytest.raises(RuntimeError, match="closed"):
        await client.get(POD)


async def test_responses_are_not_asked_to_be_compressed(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await client.get(POD)
    assert "Accept-Encoding" not in api.headers[0]
    assert api.headers[0]["User-Agent"] == "bareboat"


class Secure:
    """An API server behind TLS that wants client certificates."""

    def __init__(self, name: str) -> None:
        self.authority = trustme.CA()
        self.peers: list[str] = []
        self.trusted = {"first"}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(self.context)
        self.authority.configure_trust(self.context)
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def pem(self, name: str) -> tuple[str, str]:
        leaf = self.authority.issue_cert(f"{name}@example.org", common_name=name)
        return leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        certificate: Any = request.transport.get_extra_info("peercert") or {"subject": ()}
        names = [value for part in certificate["subject"] for key, value in part if key == "commonName"]
        self.peers += names or ["nobody"]
        if not set(names) & self.trusted:
            return fakeapi.refusal(401, "Unauthorized", "Unauthorized")
        return web.json_response({"metadata": {"name": "a"}})

    async def start(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.context).start()
        return runner, f"https://127.0.0.1:{runner.addresses[0][1]}"


async def test_the_server_may_bear_another_name_than_its_address_when_configured() -> None:
    secure = Secure("kubernetes.example.org")
    runner, url = await secure.start()
    config = configs.Config(server=url, ssl=secure.client_context(), credentials=credentials.Fixed(), where="test")
    credentials.load_client_certificate(config.ssl, *secure.pem("first"), where="test")  # type: ignore[arg-type]
    try:
        async with clients.Client(config) as client:
            with pytest.raises(errors.Unreachable, match="certificate"):
                await client.get(POD)
        config.tls_server_name = "kubernetes.example.org"
        async with clients.Client(config) as client:
            await client.get(POD)
    finally:
        await runner.cleanup()


async def test_a_new_client_certificate_is_used_after_the_old_one_was_refused(tmp_path: Path) -> None:
    secure = Secure("127.0.0.1")
    runner, url = await secure.start()
    context = secure.client_context()
    current = tmp_path / "name"
    current.write_text("first")
    pems = {name: secure.pem(name) for name in ("first", "second")}

    def load() -> None:
        credentials.load_client_certificate(context, *pems[current.read_text()], where="test")

    load()
    config = configs.Config(server=url, ssl=context, credentials=credentials.CertificateFiles(load), where="test")
    try:
        async with clients.Client(config) as client:
            await client.patch(POD, {})
            secure.trusted = {"second"}
            current.write_text("second")
            await client.patch(POD, {})
        assert secure.peers == ["first", "first", "second"]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (resources.PODS.path(), "/api/v1/pods"),
        (resources.PODS.path("n"), "/api/v1/namespaces/n/pods"),
        (resources.PODS.path("n", "p", "status"), "/api/v1/namespaces/n/pods/p/status"),
        (resources.NODES.path(name="x"), "/api/v1/nodes/x"),
        (resources.JOBS.path("n", "j"), "/apis/batch/v1/namespaces/n/jobs/j"),
    ],
)
def test_paths(built: str, expected: str) -> None:
    assert built == expected


def test_a_namespaced_object_without_namespace_has_no_path() -> None:
    with pytest.raises(ValueError, match="needs a namespace"):
        resources.PODS.path(name="p")
