"""A real Kubernetes control plane as plain processes, without containers."""
