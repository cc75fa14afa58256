# For a Jetson: TensorRT and CUDA of JetPack. Build it on the board; see docs/jetson.md.
# The base has to match the board's Jetson Linux release (cat /etc/nv_tegra_release).
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3-pip python3-venv python3-libnvinfer python3-opencv \
 && rm -rf /var/lib/apt/lists/*

# The major version of that release's CUDA: 13 for JetPack 7.
ARG CUDA=12
ENV PATH=/opt/tracker/bin:$PATH
RUN python3 -m venv --system-site-packages /opt/tracker \
 && pip install --no-cache-dir 'numpy<2' "cuda-bindings==$CUDA.*"

COPY . /src
# Without an extra: OpenCV is the system's.
RUN pip install --no-cache-dir 'numpy<2' /src && rm -rf /src

ENTRYPOINT ["edge-tracker"]
