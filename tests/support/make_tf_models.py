"""Make TensorFlow models of several kinds in the folder given: run by the builder's Python."""

from __future__ import annotations

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
import tf_keras

folder = sys.argv[1]
layers = tf.keras.layers
tf.keras.utils.set_random_seed(1)

# Two inputs of different dtypes and two outputs.
left = tf.keras.Input((4,), name="left")
right = tf.keras.Input((4,), name="right")
total = layers.Add(name="total")([left, right])
product = layers.Multiply(name="product")([left, right])
tf.keras.Model([left, right], [total, product]).save(f"{folder}/two.keras")

# Sequential, whose tensors have no names of their own.
tf.keras.Sequential([tf.keras.Input((4,)), layers.Dense(3, activation="softmax")]).save(
    f"{folder}/sequential.keras"
)

# A classifier that also gives what it saw: labels belong to one of its outputs.
image = tf.keras.Input((8, 8, 1), name="image")
seen = layers.Flatten(name="seen")(layers.Conv2D(2, 3)(image))
tf.keras.Model(image, [seen, layers.Dense(3, activation="softmax", name="classes")(seen)]).save(
    f"{folder}/labelled.keras"
)

# Free dimensions: a text of any length, a picture of any size.
ids = tf.keras.Input((None,), name="ids", dtype="int32")
words = layers.Conv1D(6, 3, padding="same", activation="relu")(layers.Embedding(50, 8)(ids))
scores = layers.Dense(3, activation="softmax", name="scores")(layers.GlobalMaxPooling1D()(words))
tf.keras.Model(ids, scores).save(f"{folder}/sentences.keras")
picture = tf.keras.Input((None, None, 3), name="picture")
features = layers.Conv2D(6, 3, padding="same", activation="relu")(picture)
heat = layers.Conv2D(2, 1, name="heat")(features)
kinds = layers.Dense(3, activation="softmax", name="kinds")(layers.GlobalAveragePooling2D()(features))
tf.keras.Model(picture, [kinds, heat]).save(f"{folder}/anysize.keras")


class Doubler(tf.Module):
    """SavedModels with named signatures and a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="values")])
    def serve(self, values):  # type: ignore[no-untyped-def]
        return {"doubled": values * self.factor}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="values")])
    def triple(self, values):  # type: ignore[no-untyped-def]
        return {"tripled": values * 3.0}

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32, name="values")])
    def fixed(self, values):  # type: ignore[no-untyped-def]
        return {"doubled": values * self.factor}

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 3], tf.float32, name="values")])
    def svd(self, values):  # type: ignore[no-untyped-def]
        return {"singular": tf.linalg.svd(values, compute_uv=False)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.string, name="words")])
    def text(self, words):  # type: ignore[no-untyped-def]
        return {"lengths": tf.cast(tf.strings.length(words), tf.float32)}


module = Doubler()
for name, signatures in {
    "doubler": {"serving_default": module.serve},
    "several": {"double": module.serve, "triple": module.triple},
    "fixed": {"serving_default": module.fixed},
    "svd": {"serving_default": module.svd},
    "text": {"serving_default": module.text},
}.items():
    tf.saved_model.save(module, f"{folder}/{name}", signatures=signatures)


class Mine(layers.Layer):
    """A layer whose code is here and nowhere else."""

    def call(self, x):  # type: ignore[no-untyped-def]
        return x * 2


values = tf.keras.Input((4,), name="x")
tf.keras.Model(values, Mine()(values)).save(f"{folder}/custom.keras")
tf.keras.Model(values, layers.Lambda(lambda x: x * 2)(values)).save(f"{folder}/lambda.keras")

# Files of Keras 2, with layers that Keras 3 cannot read from them.
old = tf_keras.layers
model = tf_keras.Sequential(
    [
        old.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)),
        old.BatchNormalization(),
        old.DepthwiseConv2D(3),
        old.Flatten(),
        old.Dense(3, activation="softmax"),
    ]
)
model.save(f"{folder}/old.h5")
model.save(f"{folder}/old.keras")
ones = np.ones((1, 8, 8, 1), np.float32)
np.save(f"{folder}/old.npy", model(ones, training=False).numpy())
