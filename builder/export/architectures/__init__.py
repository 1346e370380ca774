"""Networks that we build in Keras ourselves, for trained weights that other frameworks have left.

Each module builds one: ``build(tf, weights)`` gives a Keras model of float pictures [n, H, W, 3], already
preprocessed, to probabilities [n, classes].
"""
