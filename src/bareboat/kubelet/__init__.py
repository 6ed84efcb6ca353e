"""The HTTPS API of a kubelet that kube-apiserver dials on :10250."""
