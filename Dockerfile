# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /venv
COPY requirements.txt ./
RUN /venv/bin/pip install --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /venv/bin/pip install --no-deps .

FROM python:3.11-slim
# Everything that is written goes to /data: the rest may be read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATABASE_URL=sqlite+aiosqlite:////data/ai-proxy.db
RUN useradd --system --uid 10001 --user-group --no-create-home ai-proxy \
    && install -d -o ai-proxy -g ai-proxy -m 0700 /data
COPY --from=build /venv /venv
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# An unhealthy container is restarted by some: only one that does not answer, not one whose database is away.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/livez', timeout=2)"]
# The service migrates its database at start.
CMD ["ai-proxy", "serve"]
