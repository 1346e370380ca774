# NVIDIA's two images as far as our Dockerfiles and entrypoints use them, on bases without TensorRT.
# The fakes run on the Python of /opt/venv, which our own Dockerfile puts there (tensorrt) or has already put
# there (tritonserver).
ARG BASE_IMAGE

FROM ${BASE_IMAGE} AS tensorrt
COPY fakes/trtexec.py /standin/tests/fakes/
COPY samples /standin/tests/samples
RUN printf '#!/bin/sh\nexec /opt/venv/bin/python3 /standin/tests/fakes/trtexec.py "$@"\n' >/usr/local/bin/trtexec \
    && printf '#!/bin/sh\ncat /standin/tests/samples/nvidia_smi.csv\n' >/usr/local/bin/nvidia-smi \
    && chmod 755 /usr/local/bin/trtexec /usr/local/bin/nvidia-smi

FROM ${BASE_IMAGE} AS tritonserver
USER root
RUN rm -r /models && mkdir -p /standin && ln -s /opt/triton /standin/triton
COPY fakes /standin/tests/fakes
RUN printf '#!/bin/sh\nexec /opt/venv/bin/python3 /standin/tests/fakes/tritonserver.py "$@"\n' \
    >/usr/local/bin/tritonserver && chmod 755 /usr/local/bin/tritonserver
ENTRYPOINT []

# Prometheus' image, for machines that reach no registry: the program of the machine itself (the build's context)
# on a Debian, with the folder, the user and the wget that Compose's service counts on.
FROM ${BASE_IMAGE} AS prometheus
COPY prometheus /bin/prometheus
RUN install -d -o 65534 -g 65534 /prometheus \
    && printf '#!/bin/sh\nfor url; do :; done\nexec python3 -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])" "$url"\n' \
    >/bin/wget && chmod 755 /bin/wget
ENTRYPOINT ["/bin/prometheus"]
