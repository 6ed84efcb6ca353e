"""What becomes of every field of a pod's spec, per way of access, and the rules that say so."""
