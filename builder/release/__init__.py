"""A release: built, held to the parity gate, stored, and made live."""
