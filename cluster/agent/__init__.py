"""The agent of a node: brings its servers to the release that the cluster wants, and reports."""
