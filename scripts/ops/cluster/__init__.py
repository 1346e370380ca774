"""What the verbs know of the other machines."""
