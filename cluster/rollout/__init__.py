"""A release brought to every node of the cluster: canaries first, then node by node, and back again."""
