"""Pictures over plain HTTP: one picture in, its labels out as JSON; batched by Triton."""
