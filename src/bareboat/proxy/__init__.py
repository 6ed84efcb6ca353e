"""The container of a StatefulSet pod: finds or rents its own instance from a template and fronts it with nginx."""
