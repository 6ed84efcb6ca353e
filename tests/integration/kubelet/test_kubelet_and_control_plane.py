"""The kubelet API and the real control plane: proxying, rights by RBAC, certificates by the real signer."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from tests.integration import conftest as integration
from tests.integration.kubelet import conftest

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import resources
from bareboat.kubelet import certificates, client_ca, logs, serving_certificate
from bareboat.plumbing import clock as clocks
from bareboat.sandbox import controlplane, pki

RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def test_the_apiservers_own_certificate_opens_every_route(kubelet: conftest.Kubelet) -> None:
    """With kube-apiserver's client certificate; its node proxy itself refuses to dial loopback addresses."""
    await kubelet.run_pod("proxied", conftest.Log())
    async with session(kubelet, kubelet.sandbox.credentials.kubelet_client) as opened:
        for path in ("/pods", "/runningpods/"):
            _status, body = await get(opened, path)
            assert [pod["metadata"]["name"] for pod in json.loads(body)["items"]] == ["proxied"]
        _status, body = await get(opened, "/stats/summary")
        assert json.loads(body) == {"node": {"nodeName": kubelet.node}, "pods": []}
        _status, body = await get(opened, "/configz")
        assert json.loads(body) == {"kubeletconfig": {"port": 10250}}
        assert await get(opened, "/healthz") == (200, "ok")


@pytest.mark.parametrize(
    "arguments, power",
    [
        (("exec", "pod-of-no-power", "--", "ls"), "exec"),
        (("attach", "pod-of-no-power"), "attach"),
        (("port-forward", "pod-of-no-power", ":80"), "port-forward"),
    ],
)
async def test_kubectl_is_told_what_plain_access_can_not_do(
    kubelet: conftest.Kubelet, arguments: tuple[str, ...], power: str
) -> None:
    await kubelet.run_pod("pod-of-no-power", conftest.Log())
    done = await kubelet.kubectl(*arguments)
    assert done.returncode == 1
    assert f"plain access has no {power}: the cloud starts the pod's image" in done.stderr


async def test_a_log_that_breaks_off_says_so(kubelet: conftest.Kubelet) -> None:
    log = conftest.Log(conftest.written("first"), asyncio.Queue())
    pod = await kubelet.run_pod("broken", log)
    follower = await kubelet.start_kubectl("logs", "-f", pod)
    assert follower.stdout is not None and log.coming is not None
    assert await asyncio.wait_for(follower.stdout.readline(), 20) == b"first\n"
    log.coming.put_nowait(logs.Unavailable("the cloud is down"))
    rest, _said = await asyncio.wait_for(follower.communicate(), 20)
    assert rest == b"[bareboat: the log breaks off here: the cloud is down]\n"


async def test_a_token_reads_the_figures_that_its_role_allows(kubelet: conftest.Kubelet) -> None:
    account = "figures-reader"
    await kubelet.api.create(
        resources.SERVICE_ACCOUNTS.path(conftest.NAMESPACE),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
    )
    figures = {"apiGroups": [""], "resources": ["nodes/metrics", "nodes/stats"], "verbs": ["get"]}
    await grant(kubelet.api, account, [figures])
    token = (await kubelet.api.token(conftest.NAMESPACE, account, expiration_s=600)).token
    path = kubelet.sandbox.kubeconfig_for_token(token, path=kubelet.sandbox.folder / f"{account}.kubeconfig")
    async with clients.Client(configs.load(path, environ={})) as reader:
        await rights_are_known(reader, verb="get", resource="nodes", subresource="metrics", name=kubelet.node)
    async with session(kubelet) as opened:
        status, body = await get(opened, "/metrics/resource", token)
        assert (status, "resource_scrape_error 0" in body) == (200, True)
        user = f"system:serviceaccount:{conftest.NAMESPACE}:{account}"
        assert await get(opened, "/pods", token) == (
            403,
            f"Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[pods proxy])",
        )
        assert await get(opened, "/metrics", "x.y.z") == (401, "Unauthorized")
        assert await get(opened, "/metrics") == (401, "Unauthorized")


async def test_a_user_without_rights_is_forbidden_and_a_finer_right_is_enough(kubelet: conftest.Kubelet) -> None:
    authority = kubelet.sandbox.credentials.authority
    async with session(kubelet, authority.issue_client("eve", "eve", ["nobodies"])) as opened:
        status, body = await get(opened, "/healthz")
        assert (status, body) == (
            403,
            "Forbidden (user=eve, verb=get, resource=nodes, subresource(s)=[healthz proxy])",
        )
    health = {"apiGroups": [""], "resources": ["nodes/healthz"], "verbs": ["get"]}
    await grant(kubelet.api, "dora-may-ask-for-health", [health], subject={"kind": "User", "name": "dora"})
    path = kubelet.sandbox.kubeconfig_for_user("dora")
    async with clients.Client(configs.load(path, environ={})) as dora:
        await rights_are_known(dora, verb="get", resource="nodes", subresource="healthz", name=kubelet.node)
    async with session(kubelet, authority.issue_client("dora", "dora")) as opened:
        assert await get(opened, "/healthz") == (200, "ok")
        assert (await get(opened, "/configz"))[0] == 403


async def test_a_certificate_for_servers_does_not_pass_for_a_clients(kubelet: conftest.Kubelet) -> None:
    async with session(kubelet, kubelet.sandbox.credentials.server) as opened:
        with pytest.raises(aiohttp.ClientError):
            await get(opened, "/healthz")


async def test_a_service_account_with_the_documented_rights_gets_a_certificate(
    sandbox: controlplane.ControlPlane, kubectl: integration.Kubectl
) -> None:
    """Create and get of requests; to approve its own, update of the approval and `approve` on the signer."""
    account = "certificate-seeker"
    group, kind = "certificates.k8s.io", "certificatesigningrequests"
    async with clients.Client(configs.load(sandbox.kubeconfig_path, environ={})) as admin:
        await admin.create(
            resources.SERVICE_ACCOUNTS.path(conftest.NAMESPACE),
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
        )
        await grant(admin, account, [{"apiGroups": [group], "resources": [kind], "verbs": ["create", "get"]}])
        token = (await admin.token(conftest.NAMESPACE, account, expiration_s=600)).token
        path = sandbox.kubeconfig_for_token(token, path=sandbox.folder / f"{account}.kubeconfig")
        async with clients.Client(configs.load(path, environ={})) as api:
            await rights_are_known(api, group=group, verb="get", resource=kind)
            async with being_kept(api, approve_own=False) as waiting:
                name = await the_only_request(admin, "virt-sa-")
                assert not waiting.issued.is_set()
                await asyncio.to_thread(kubectl, "certificate", "approve", name)
                await asyncio.wait_for(waiting.issued.wait(), 20)
            signers = {"resources": ["signers"], "resourceNames": [serving_certificate.SIGNER], "verbs": ["approve"]}
            approval = {"resources": [f"{kind}/approval"], "verbs": ["update"]}
            await grant(
                admin,
                f"{account}-approver",
                [{"apiGroups": [group], **rule} for rule in (approval, signers)],
                subject={"kind": "ServiceAccount", "name": account, "namespace": conftest.NAMESPACE},
            )
            await rights_are_known(api, group=group, verb="update", resource=kind, subresource="approval")
            async with being_kept(api, approve_own=True) as own:
                await asyncio.wait_for(own.issued.wait(), 20)


async def test_the_client_ca_is_readable_with_its_ready_made_role(
    sandbox: controlplane.ControlPlane, kubectl: integration.Kubectl
) -> None:
    role = "--role=extension-apiserver-authentication-reader"
    binding = ("create", "rolebinding", "-n", "kube-system", "nina-reads-the-client-ca", role, "--user=nina")
    await asyncio.to_thread(kubectl, *binding)
    async with clients.Client(configs.load(sandbox.kubeconfig_for_user("nina"), environ={})) as api:
        await rights_are_known(
            api, verb="get", resource="configmaps", namespace=client_ca.NAMESPACE, name=client_ca.CONFIG_MAP
        )
        assert await client_ca.of_cluster(api) == sandbox.authority_path.read_text()


async def test_a_node_that_moves_shows_a_certificate_for_its_new_address(kubelet: conftest.Kubelet) -> None:
    async def verified_as(address: str) -> bool:
        trust = ssl.create_default_context(cafile=kubelet.sandbox.authority_path)
        try:
            _reader, writer = await asyncio.open_connection(
                "127.0.0.1", kubelet.served.port, ssl=trust, server_hostname=address
            )
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    assert await verified_as("127.0.0.1")
    assert not await verified_as("127.0.0.2")
    kubelet.names.addresses = ("127.0.0.2",)
    kubelet.certificate.issued.clear()
    await asyncio.wait_for(kubelet.certificate.issued.wait(), 30)
    assert await verified_as("127.0.0.2")


@asynccontextmanager
async def being_kept(
    api: clients.Client, *, approve_own: bool
) -> AsyncIterator[serving_certificate.ServingCertificate]:
    certificate = serving_certificate.ServingCertificate(
        api,
        "virt-sa",
        lambda: certificates.Names(dns=("virt-sa",), addresses=("127.0.0.1",)),
        serving_certificate.Settings(approve_own=approve_own, lifetime_s=3600),
        clocks.SystemClock(),
    )
    task = asyncio.create_task(certificate.run(), name="test.serving-certificate")
    try:
        yield certificate
    finally:
        task.cancel()
        await asyncio.wait([task])


async def the_only_request(admin: clients.Client, prefix: str) -> str:
    path = resources.CERTIFICATE_SIGNING_REQUESTS.path()
    async with asyncio.timeout(20):
        while True:
            page = await admin.list(path, item=serving_certificate.SigningRequest)
            names = [held.metadata.name for held in page.items or () if held.metadata.name.startswith(prefix)]
            if names:
                (name,) = names
                return name
            await asyncio.sleep(0.05)


async def grant(
    admin: clients.Client, name: str, rules: list[dict[str, Any]], *, subject: dict[str, str] | None = None
) -> None:
    """A ClusterRole and its binding, both called `name`; by default for the ServiceAccount of that name."""
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    await admin.create(f"{RBAC}/clusterroles", {**kind, "kind": "ClusterRole", "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    account = {"kind": "ServiceAccount", "name": name, "namespace": conftest.NAMESPACE}
    binding = {**kind, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject or account]}
    await admin.create(f"{RBAC}/clusterrolebindings", binding)


async def rights_are_known(api: clients.Client, **attributes: str) -> None:
    """RBAC reads its rules from a cache: waits until a new one counts."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    async with asyncio.timeout(10):
        while True:
            answer = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
            if json.loads(answer)["status"]["allowed"]:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def session(kubelet: conftest.Kubelet, pair: pki.KeyPair | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that verifies the node's certificate, with a client certificate only if one is given."""
    trust = ssl.create_default_context(cafile=kubelet.sandbox.authority_path)
    if pair is not None:
        trust.load_cert_chain(pair.certificate_path, pair.key_path)
    connector = aiohttp.TCPConnector(ssl=trust)
    async with aiohttp.ClientSession(f"https://127.0.0.1:{kubelet.served.port}", connector=connector) as opened:
        yield opened


async def get(opened: aiohttp.ClientSession, path: str, bearer: str | None = None) -> tuple[int, str]:
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    async with opened.get(path, headers=headers) as answer:
        return answer.status, await answer.text()
