"""Who gets in: client certificates, bearer tokens, nobody; and what they may do then."""

import asyncio
import ssl

import aiohttp
import pytest
import trustme
import yarl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.unit.kubelet import serving

from bareboat.kube import errors
from bareboat.kubelet import authn, authz, logs, tls

WEBHOOK = authz.Settings("Webhook")


async def test_a_client_certificate_names_its_user_and_groups() -> None:
    reviewer = serving.Reviewer(allowed={("apiserver", "get", "proxy")})
    async with (
        serving.served(reviewer=reviewer, authorization=WEBHOOK) as api,
        api.client("apiserver", groups="system:masters") as session,
        session.get(api.url("/exec/default/p/c")) as answer,
    ):
        assert answer.status == 501
    assert reviewer.asked == [
        {
            "path": "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": "apiserver",
                "uid": "",
                "groups": ["system:masters", "system:authenticated"],
                "extra": {},
                "resourceAttributes": {
                    "verb": "get",
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": "proxy",
                    "name": serving.NODE,
                },
            },
        }
    ]


async def test_a_certificate_of_somebody_else_is_refused() -> None:
    async with serving.served() as api, api.client("apiserver", ca=trustme.CA()) as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(api.url("/healthz")) as answer:
                await answer.read()


async def test_nobody_is_unauthorized_on_every_path() -> None:
    async with serving.served() as api:
        for path in ("/healthz", "/pods", "/containerLogs/default/p/c", "/nowhere"):
            assert await api.get(path, user=None) == (401, "Unauthorized")
        assert not api.reviewer.asked


async def test_anonymous_gets_in_only_where_it_is_switched_on_and_without_a_bad_token() -> None:
    reviewer = serving.Reviewer(allowed={("system:anonymous", "get", "healthz")})
    settings = authn.Settings(anonymous_auth=True)
    async with serving.served(reviewer=reviewer, authentication=settings, authorization=WEBHOOK) as api:
        assert await api.get("/healthz", user=None) == (200, "ok")
        status, body = await api.get("/pods", user=None)
        assert (status, body.partition(" ")[0]) == (403, "Forbidden")
        for credential in ("Bearer wrong", "Basic d3Jvbmc6d3Jvbmc="):
            assert (await api.get("/healthz", user=None, Authorization=credential))[0] == 401


async def test_a_bearer_token_is_reviewed_once_and_then_remembered_for_two_minutes() -> None:
    reviewer = serving.Reviewer(tokens={"t-1": "prometheus"})
    async with serving.served(reviewer=reviewer) as api:
        for _ in range(3):
            assert await api.get("/healthz", user=None, Authorization="Bearer t-1") == (200, "ok")
        assert len(reviewer.asked) == 1
        del reviewer.tokens["t-1"]
        await api.clock.advance(119)
        assert (await api.get("/healthz", user=None, Authorization="Bearer t-1"))[0] == 200
        await api.clock.advance(1)
        assert (await api.get("/healthz", user=None, Authorization="Bearer t-1"))[0] == 401


async def test_a_refused_token_is_not_remembered_for_long() -> None:
    reviewer = serving.Reviewer()
    async with serving.served(reviewer=reviewer) as api:
        assert (await api.get("/healthz", user=None, Authorization="bearer t-2"))[0] == 401
        reviewer.tokens["t-2"] = "late"
        assert (await api.get("/healthz", user=None, Authorization="bearer t-2"))[0] == 401
        await api.clock.advance(10)
        assert (await api.get("/healthz", user=None, Authorization="bearer t-2"))[0] == 200


async def test_a_token_that_can_not_be_reviewed_is_unauthorized_but_not_remembered() -> None:
    reviewer = serving.Reviewer(tokens={"t-1": "prometheus"}, failure=errors.Timeout("no answer"))
    async with serving.served(reviewer=reviewer) as api:
        assert (await api.get("/healthz", user=None, Authorization="Bearer t-1"))[0] == 401
        reviewer.failure = None
        assert (await api.get("/healthz", user=None, Authorization="Bearer t-1"))[0] == 200


async def test_tokens_are_not_looked_at_when_token_reviews_are_off() -> None:
    reviewer = serving.Reviewer(tokens={"t-1": "prometheus"})
    settings = authn.Settings(authentication_token_webhook=False)
    async with serving.served(reviewer=reviewer, authentication=settings) as api:
        assert (await api.get("/healthz", user=None, Authorization="Bearer t-1"))[0] == 401


async def test_uid_groups_and_extra_of_a_token_reach_the_access_review() -> None:
    reviewer = serving.Reviewer(tokens={"t-1": "sa"}, allowed={("sa", "get", "metrics")})
    async with serving.served(reviewer=reviewer, authorization=WEBHOOK) as api:
        assert (await api.get("/metrics/resource", user=None, Authorization="Bearer t-1"))[0] == 200
    spec = reviewer.asked[-1]["spec"]
    assert (spec["uid"], spec["groups"], spec["extra"]) == ("u-1", ["g", "system:authenticated"], {"k": ["v"]})


async def test_a_refusal_says_who_may_not_do_what() -> None:
    async with serving.served(authorization=WEBHOOK) as api:
        assert await api.get("/pods", user="eve") == (
            403,
            "Forbidden (user=eve, verb=get, resource=nodes, subresource(s)=[pods proxy])",
        )


async def test_an_unknown_path_is_404_only_to_those_who_may_ask() -> None:
    reviewer = serving.Reviewer(allowed={("admin", "get", "proxy")})
    async with serving.served(reviewer=reviewer, authorization=WEBHOOK) as api:
        assert (await api.get("/nowhere", user="eve"))[0] == 403
        assert (await api.get("/nowhere"))[0] == 404


async def test_no_verdict_of_the_api_server_is_500_and_is_not_remembered() -> None:
    reviewer = serving.Reviewer(allowed={("admin", "get", "proxy")}, failure=errors.Unreachable("no route"))
    async with serving.served(reviewer=reviewer, authorization=WEBHOOK) as api:
        status, body = await api.get("/pods")
        assert (status, body) == (500, "Authorization error (user=admin): the API server gave no verdict")
        reviewer.failure = None
        assert (await api.get("/pods"))[0] == 200


async def test_yes_is_remembered_for_five_minutes_and_no_for_half_a_minute() -> None:
    reviewer = serving.Reviewer(allowed={("admin", "get", "stats")})
    async with serving.served(reviewer=reviewer, authorization=WEBHOOK) as api:
        assert (await api.get("/stats/summary"))[0] == 200
        assert (await api.get("/metrics"))[0] == 403
        reviewer.allowed = {("admin", "get", "metrics")}
        await api.clock.advance(29)
        assert (await api.get("/metrics"))[0] == 403
        await api.clock.advance(1)
        assert (await api.get("/metrics"))[0] == 200
        assert (await api.get("/stats/summary"))[0] == 200
        await api.clock.advance(270)
        assert (await api.get("/stats/summary"))[0] == 403


@pytest.mark.parametrize(
    "method, path, verb, subresources",
    [
        ("GET", "/containerLogs/ns/p/c", "get", ("proxy",)),
        ("POST", "/exec/ns/p/c", "create", ("proxy",)),
        ("GET", "/exec/ns/p/c", "get", ("proxy",)),
        ("POST", "/stats/summary", "create", ("stats",)),
        ("GET", "/metrics", "get", ("metrics",)),
        ("GET", "/metrics/resource", "get", ("metrics",)),
        ("GET", "/metricsx", "get", ("proxy",)),
        ("GET", "/logs/", "get", ("log",)),
        ("POST", "/checkpoint/ns/p/c", "create", ("checkpoint",)),
        ("GET", "/statusz", "get", ("statusz",)),
        ("GET", "/flagz", "get", ("configz",)),
        ("GET", "/pods", "get", ("pods", "proxy")),
        ("GET", "/runningpods/", "get", ("pods", "proxy")),
        ("GET", "/healthz", "get", ("healthz", "proxy")),
        ("GET", "/healthz/syncloop", "get", ("healthz", "proxy")),
        ("GET", "/configz", "get", ("configz", "proxy")),
        ("PUT", "/debug/flags/v", "update", ("proxy",)),
        ("PATCH", "/x", "patch", ("proxy",)),
        ("DELETE", "/x", "delete", ("proxy",)),
        ("BREW", "/x", "", ("proxy",)),
        ("GET", "//metrics", "get", ("metrics",)),
    ],
)
def test_each_path_is_guarded_by_its_subresource(
    method: str, path: str, verb: str, subresources: tuple[str, ...]
) -> None:
    assert authz.Action.of(method, path) == authz.Action(verb, subresources)


@pytest.mark.parametrize(
    "path",
    [
        "//containerLogs/default/p/c",
        "/metrics/../containerLogs/default/p/c",
        "/metrics/%2e%2e/containerLogs/default/p/c",
        "/metrics%2f..%2fcontainerLogs/default/p/c",
        "/healthz/..%2fcontainerLogs/default/p/c",
        "/%63ontainerLogs/default/p/c",
    ],
)
async def test_no_spelling_of_a_path_slips_past_the_right_it_needs(path: str) -> None:
    async def container_logs(_namespace: str, _pod: str, _container: str, _options: logs.LogOptions) -> logs.Lines:
        pytest.fail("the log was opened")

    reviewer = serving.Reviewer(allowed={("admin", "get", finer) for finer in ("metrics", "healthz", "stats", "pods")})
    served_handlers = serving.handlers(container_logs=container_logs)
    async with (
        serving.served(served_handlers, reviewer=reviewer, authorization=WEBHOOK) as api,
        api.client() as session,
        session.get(yarl.URL(api.url(path), encoded=True)) as answer,
    ):
        assert answer.status in (403, 404)


def test_a_wrong_authorization_mode_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="'Sometimes'; allowed are 'Webhook' and 'AlwaysAllow'"):
        authz.Settings("Sometimes")  # type: ignore[arg-type]


def test_a_certificate_without_a_common_name_is_nobody() -> None:
    assert authn.of_certificate({"subject": ((("organizationName", "system:masters"),),)}) is None
    assert authn.of_certificate(None) is None


async def test_a_new_client_ca_counts_for_new_connections() -> None:
    other = trustme.CA()
    async with serving.served(client_ca=False) as api:
        assert (await api.get("/healthz"))[0] == 401
        api.tls.trust(api.client_ca.cert_pem.bytes().decode())
        assert (await api.get("/healthz"))[0] == 200
        api.tls.trust(other.cert_pem.bytes().decode())
        async with api.client("admin", ca=other) as session, session.get(api.url("/healthz")) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await api.get("/healthz")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls_and_another_kind_of_key_are_served(version: ssl.TLSVersion) -> None:
    async with serving.served() as api:
        issued = api.serving_ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        api.tls.present(tls.KeyChain(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()))
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        api.serving_ca.configure_trust(trust)
        trust.minimum_version = trust.maximum_version = version
        trust.set_alpn_protocols(["h2", "http/1.1"])
        port = api.server.port
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="127.0.0.1")
        connection = writer.get_extra_info("ssl_object")
        assert connection.selected_alpn_protocol() == "http/1.1"
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
        assert isinstance(shown.public_key(), rsa.RSAPublicKey)
        writer.close()
        await writer.wait_closed()


async def test_an_unusable_client_ca_changes_nothing() -> None:
    async with serving.served() as api:
        with pytest.raises(tls.BadCertificate, match="client CA bundle"):
            api.tls.trust("no certificate")
        assert (await api.get("/healthz"))[0] == 200


async def test_a_new_serving_certificate_is_shown_without_dropping_connections() -> None:
    lines: asyncio.Queue[logs.LogLine] = asyncio.Queue()

    async def container_logs(_namespace: str, _pod: str, _container: str, _options: logs.LogOptions) -> logs.Lines:
        return endless()

    async def endless() -> logs.Lines:
        while True:
            yield await lines.get()

    async with (
        serving.served(serving.handlers(container_logs=container_logs)) as api,
        api.client() as session,
        session.get(api.url("/containerLogs/default/p/c?follow=1")) as follower,
    ):
        new_ca = trustme.CA()
        api.tls.present(serving.chain(new_ca, "127.0.0.1"))
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await api.get("/healthz")
        api.serving_ca = new_ca
        assert (await api.get("/healthz"))[0] == 200
        lines.put_nowait(logs.LogLine(0, b"still here"))
        assert await follower.content.readline() == b"still here\n"


def test_a_key_that_does_not_belong_to_the_certificate_is_refused_in_words() -> None:
    ca = trustme.CA()
    one, other = serving.chain(ca, "127.0.0.1"), serving.chain(ca, "127.0.0.1")
    with pytest.raises(tls.BadCertificate, match="belong together"):
        tls.Tls(tls.KeyChain(one.certificate_pem, other.key_pem))
