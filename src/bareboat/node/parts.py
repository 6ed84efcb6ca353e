"""What the reconcile of pods works with: made once in the assembly, shared, never changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from bareboat.fleet import accounts as accounts_
from bareboat.fleet import broker
from bareboat.kube import client as clients
from bareboat.kube import events
from bareboat.node import decide, pod_inputs
from bareboat.plumbing import clock as clocks
from bareboat.workload import needs, sources


@dataclass(frozen=True, slots=True)
class Parts:
    """`rents_for` is `all` or `gpu`: which pods may rent at all. `host_ip` is the node's own address."""

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

    def account(self, cloud: str) -> accounts_.Account | None:
        """None for a cloud that is no longer configured: what is rented there can't be seen."""
        return self.accounts.get(cloud)
