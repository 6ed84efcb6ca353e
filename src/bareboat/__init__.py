"""Bareboat lets a Kubernetes cluster hire GPUs on rental clouds and run its own workloads there."""

__version__ = "0.1.0"
