# A node with NVIDIA GPUs:  docker build -f containers/cuda.Dockerfile -t meshd:cuda .
# Its host needs a driver for CUDA 12 and the NVIDIA Container Toolkit:  docker run --gpus all …
FROM nvidia/cuda:12.9.1-devel-ubuntu24.04 AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ git make python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir "uv==0.13.*"
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /src
COPY . .
RUN /uv/bin/uv sync --no-dev --no-editable --extra cuda12 --extra cpu-forms
# Pascal (P40) to Blackwell. There is no driver to link against while an image is built, hence the linker's flag.
ARG CUDA_ARCHITECTURES="61;70;75;80;86;89;90;120"
ENV MESHD_ENGINE_FLAGS="-DGGML_NATIVE=OFF -DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES} -DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined"
RUN PATH=/uv/bin:$PATH XDG_DATA_HOME=/opt /opt/venv/bin/python tools/engine.py cuda \
 && chmod 0755 /opt/meshd

FROM nvidia/cuda:12.9.1-runtime-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 meshd \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home meshd \
 && install -d -o meshd -g meshd -m 0700 /data /tokens
COPY --from=build /opt /opt
ENV PATH=/opt/venv/bin:$PATH HOME=/data MESHD_DATA_DIR=/data MESHD_ENGINE=/opt/meshd/engine/bin/llama-server
USER 10001:10001
VOLUME ["/data"]
EXPOSE 7842/udp 7842/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["meshd", "status", "--json"]
ENTRYPOINT ["meshd"]
