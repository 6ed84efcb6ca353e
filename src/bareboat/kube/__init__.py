"""The Kubernetes client, informer cache, per-key work queue, patches, events, leases. Knows nothing of renting."""
