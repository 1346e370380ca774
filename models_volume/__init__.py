"""The format of the models volume: the one description of it, read and written by every part.

    layout          where things lie, which release is live, what does not belong there
    manifest        manifest.json: reading it, and typed access to what it says
    golden          golden.npz: reading and writing it (NumPy)
    comparator      are these answers right? (NumPy)
    preprocessing   what becomes of pixels before they reach a model (NumPy, TensorFlow)
    pictures        what pixels a picture file holds for a model (NumPy, Pillow)
    readiness       does a server answer with a model's version, and if not, why
    snapshot        all of a volume as JSON: python -m models_volume snapshot DIR

Standard library and Python 3.8; NumPy only where arrays are, Pillow only where pictures are. Imports
nothing of the other parts.
"""
