"""Train a small Keras CNN on digits: run by the builder's Python, which has TensorFlow.

Arguments: an .npz with train_x, train_y, test_x; the .keras file to write; the .npy to write with the
trained model's own scores on test_x.
"""

import os
import sys

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf


def main() -> None:
    data, model_file, scores_file = sys.argv[1:]
    arrays = np.load(data)
    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(arrays["train_x"] / 255.0, arrays["train_y"], epochs=15, batch_size=32, verbose=0)
    model.save(model_file)
    np.save(scores_file, model.predict(arrays["test_x"] / 255.0, verbose=0))


main()
