"""What happens to rented instances over time: rent, watch, reap, recover, spend."""
