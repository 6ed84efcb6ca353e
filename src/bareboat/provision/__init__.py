"""The HTTP provisioning service: an image and an ssh key in, a Secret, a Pod and a NodePort Service out."""
