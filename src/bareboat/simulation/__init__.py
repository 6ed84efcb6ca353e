"""The engine under every simulated cloud: world, faults, machines that really run the workload, ledger."""
