"""How fast is the stack, and what does serving cost against running the same engine locally?"""
