"""More than one machine: releases in a registry, rollouts over nodes, the agent of a node."""
