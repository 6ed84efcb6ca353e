"""Machines that really run what was rented: each in Linux namespaces of its own, forked from one warmed process."""
