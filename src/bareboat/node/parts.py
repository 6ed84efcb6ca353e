"""What the reconcile of pods works with: made once in the assembly, shared, never changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from bareboat.fleet import accounts as accounts_
from bareboat.fleet import broker
from bareboat.kube import client as clients
from bareboat.kube import events
from bareboat.node import decide, deliveries, installation_key, pod_inputs, sessions
from bareboat.plumbing import clock as clocks
from bareboat.workload import access, needs, sources


@dataclass(frozen=True, slots=True)
class SshAccess:
    """What ssh access takes, for a node that has it. `default` is for pods that ask for neither way."""

    key: installation_key.InstallationKey
    deliveries: deliveries.Deliveries
    sessions: sessions.Sessions
    default: access.Access = access.Access.SSH

    def obstacles(self) -> tuple[str, ...]:
        """Why no pod can have it just now."""
        return () if self.key.ring is not None else (self.key.trouble,)


@dataclass(frozen=True, slots=True)
class Parts:
    """`rents_for` is `all` or `gpu`: which pods may rent at all. `host_ip` is the node's own address. Without `ssh` all
    pods run in plain access."""

    cluster_id: str
    node_name: str
    host_ip: str
    client: clients.Client
    recorder: events.Recorder
    clock: clocks.Clock
    broker: broker.Broker
    accounts: Mapping[str, accounts_.Account]
    inputs: pod_inputs.PodInputs
    defaults: needs.Defaults
    policy: decide.Policy
    facts: sources.NodeFacts
    rents_for: str = "all"
    ssh: SshAccess | None = None

    def account(self, cloud: str) -> accounts_.Account | None:
        """None for a cloud that is no longer configured: what is rented there can't be seen."""
        return self.accounts.get(cloud)
