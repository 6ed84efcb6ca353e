"""How Bareboat reaches into a rented instance: ssh connections, the runner's documents and its channel. Knows neither
Kubernetes nor any cloud."""
