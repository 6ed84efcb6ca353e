"""The virtual node: Node object, lease, heartbeat, and the reconcile of one pod at a time."""
