"""Kubernetes: the CSI driver (``ossmount csi``) and the unprivileged sidecar (``ossmount sidecar``).

What may live here: what kubelet asks, and the processes that answer it. Everything about mounting itself
is called through :mod:`ossmount.app`. ``schema``, ``services`` and ``server`` know protobuf and gRPC, the
rest does not. docs/kubernetes.md tells how the parts work together.
"""
