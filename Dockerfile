# One image for machines with and without a GPU: the wheels of requirements.lock bring CUDA 13 with them, which wants
# NVIDIA's driver 580 or later and its container toolkit on the host.
#   docker build --tag cflow-stream:0.2.0 .
#   docker run --rm --volume cflow:/var/lib/cflow-stream cflow-stream:0.2.0 demo
# compose.yaml runs it with Redis, Prometheus and Grafana, configs/cluster/raycluster.yaml in Kubernetes. Where there is
# no container engine, `.ci/image` does what stands here in a bare Debian.
FROM debian:bookworm-slim

# The compiler (Triton wants Python's headers, too) is for `runtime.compile`; tini passes signals on and buries orphans;
# wget asks /health, as KubeRay's probes do.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates g++ python3-dev python3-venv tini wget \
    && rm -rf /var/lib/apt/lists/*

ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /usr/src/cflow-stream
COPY requirements.lock pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --quiet uv \
    && /opt/uv/bin/uv venv --quiet --python /usr/bin/python3 /opt/cflow-stream \
    && /opt/uv/bin/uv pip install --quiet --python /opt/cflow-stream/bin/python \
        --constraint requirements.lock --requirements pyproject.toml
COPY README.md LICENSE run_cluster.py ./
COPY actors actors
COPY pipeline pipeline
COPY configs configs
# A login shell, as which KubeRay starts Ray, takes its PATH from the system: so both commands are there, too.
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip install --quiet --python /opt/cflow-stream/bin/python --no-deps \
        --build-constraints requirements.lock . \
    && ln -s /opt/cflow-stream/bin/cflow-stream /opt/cflow-stream/bin/ray /usr/local/bin/ \
    && useradd --uid 1000 --create-home cflow \
    && install --directory --owner cflow --group cflow --mode 700 /var/lib/cflow-stream

ENV RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /var/lib/cflow-stream
VOLUME /var/lib/cflow-stream
# Of a run whose config has `metrics: {host: 0.0.0.0, port: 9464}`; CFLOW_METRICS_PORT=9464 says so here.
EXPOSE 9464
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=4 \
    CMD test -z "$CFLOW_METRICS_PORT" || wget --quiet --output-document=- "http://127.0.0.1:$CFLOW_METRICS_PORT/health"
ENTRYPOINT ["tini", "--", "cflow-stream"]
CMD ["--help"]
