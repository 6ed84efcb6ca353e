"""Pure translation between Pods and our words: needs, launch, references, status, annotations."""
