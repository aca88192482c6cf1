# A node without a GPU:  docker build -f containers/cpu.Dockerfile -t meshd:cpu .
# Runs on any x86-64 CPU with AVX2, or any ARMv8: llama.cpp is not tuned to the one that built it.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ git make \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir "uv==0.13.*"
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /src
COPY . .
ENV MESHD_ENGINE_FLAGS="-DGGML_NATIVE=OFF"
RUN /uv/bin/uv sync --no-dev --no-editable --extra cpu-forms \
 && PATH=/uv/bin:$PATH XDG_DATA_HOME=/opt /opt/venv/bin/python tools/engine.py cpu \
 && chmod 0755 /opt/meshd

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 libstdc++6 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 meshd \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home meshd \
 && install -d -o meshd -g meshd -m 0700 /data /tokens
COPY --from=build /opt /opt
ENV PATH=/opt/venv/bin:$PATH HOME=/data MESHD_DATA_DIR=/data MESHD_ENGINE=/opt/meshd/engine/bin/llama-server
USER 10001:10001
VOLUME ["/data"]
# The mesh, over UDP and TCP. The API (9337) listens on the container's own loopback until --listen says otherwise.
EXPOSE 7842/udp 7842/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["meshd", "status", "--json"]
ENTRYPOINT ["meshd"]
