"""Metrics of what no other part can tell: the gateway's access log, and the releases on the models volume.

``python3 -m monitoring.exporter``; nothing but Python 3.8's standard library.
"""
