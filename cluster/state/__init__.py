"""What the nodes of a cluster share: documents, kept as tags of the registry."""
