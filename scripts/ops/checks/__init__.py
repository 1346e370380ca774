"""What a machine must have: each finding with its remedy."""
