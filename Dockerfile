# Image of stream-app for Docker Compose and Kubernetes: a worker, or any other command of stream-app.
#
#     make image                                     builds stream-app:VERSION, and writes its SBOM to dist/
#     make image BASE=python:3.11-slim@sha256:...    on a base that is pinned by digest: docs/deploy.md
#
# A container needs no root, no capability and no writable file. BuildKit is not needed: Debian's engine builds it, too.

ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Tools of this stage alone: hatchling makes the wheel, cyclonedx-py the SBOM.
COPY requirements-release.txt .
RUN python -m pip install --require-hashes -r requirements-release.txt
# Without pip: nothing is installed in a container.
COPY requirements.txt .
RUN python -m venv --without-pip /opt/stream-app \
    && python -m pip --python /opt/stream-app install --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY stream_app stream_app
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/stream-app install --no-deps dist/*.whl \
    && cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /opt/stream-app/sbom.cdx.json /opt/stream-app/bin/python

FROM ${BASE}
COPY --from=build /opt/stream-app /opt/stream-app
ENV PATH=/opt/stream-app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STREAM_APP_CONFIG=/etc/stream-app/stream_app.toml
# A number: Kubernetes cannot see that a name is not root.
USER 10001:10001
WORKDIR /tmp
# A worker's metrics and health; the Inspector.
EXPOSE 9108 8080
# "unhealthy" is a worker that has not been live for a minute; an outage of S3 or Kafka is no reason for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-IS", "-c", "import os, sys; from http.client import HTTPConnection; worker = HTTPConnection('127.0.0.1', int(os.environ.get('STREAM_APP_HTTP_PORT') or 9108), timeout=4); worker.request('GET', '/health/live'); sys.exit(worker.getresponse().status != 200)"]
ENTRYPOINT ["stream-app"]
CMD ["worker"]
ARG BASE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stream-app" \
      org.opencontainers.image.description="Kafka events to S3 once a minute, exactly once, with a receipt for every object." \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
