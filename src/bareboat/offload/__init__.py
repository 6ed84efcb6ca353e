"""Bursts Jobs that wait too long, or are told to, onto the virtual node; node and clouds do the rest."""
