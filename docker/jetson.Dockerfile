# For a Jetson: TensorRT and CUDA of JetPack, pycuda compiled against them. Build it on the board; see docs/jetson.md.
# The base has to match the board's Jetson Linux release (cat /etc/nv_tegra_release).
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential python3-dev python3-pip python3-venv python3-libnvinfer python3-opencv \
 && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/tracker/bin:/usr/local/cuda/bin:$PATH
RUN python3 -m venv --system-site-packages /opt/tracker \
 && pip install --no-cache-dir 'numpy<2' pycuda

COPY . /src
# Without an extra: OpenCV is the system's.
RUN pip install --no-cache-dir 'numpy<2' /src && rm -rf /src

ENTRYPOINT ["edge-tracker"]
