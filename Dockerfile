# wardwatch as an image: `docker build -t wardwatch .`; the entry point is the command line.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/wardwatch
COPY requirements.lock ./
RUN /opt/wardwatch/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schema schema
COPY ingest ingest
COPY streams streams
COPY detectors detectors
COPY alerting alerting
COPY simulator simulator
COPY grafana grafana
COPY wardwatch wardwatch
RUN /opt/wardwatch/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install --no-install-recommends -y libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/wardwatch wardwatch \
    && install -d -o wardwatch -g wardwatch -m 0700 /var/lib/wardwatch
COPY --from=build /opt/wardwatch /opt/wardwatch
ENV PATH=/opt/wardwatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/lib/wardwatch/numba \
    WARDWATCH_DATA=/var/lib/wardwatch
USER wardwatch
WORKDIR /var/lib/wardwatch
ENTRYPOINT ["wardwatch"]
