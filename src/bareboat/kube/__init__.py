"""The Kubernetes client: requests, watches, work queues, patches, events. Knows nothing of renting."""
