# One image for the workers, the keeper and the migrations. The containers themselves were not run
# where this was written (no engine at hand); tests/contract/test_compose.py runs their commands.

# The player for browsers that play no HLS of their own; see livecart/web/player.
FROM node:22-slim AS player
COPY livecart/web/player /web/player
RUN /web/player

FROM python:3.13-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN python -m pip install --no-cache-dir -c constraints.txt hatchling
COPY livecart livecart
COPY --from=player /web/vendor livecart/web/vendor
COPY streams streams
COPY orders orders
COPY loadtest loadtest
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheels .
RUN python -m venv /opt/livecart \
    && /opt/livecart/bin/pip install --no-cache-dir -c constraints.txt "$(echo /wheels/*.whl)[stripe]"

FROM python:3.13-slim
COPY --from=build /opt/livecart /opt/livecart
ENV PATH=/opt/livecart/bin:$PATH \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent livecart
USER livecart
WORKDIR /tmp
EXPOSE 8000
# Exec form: SIGTERM must reach livecart itself, which drains on it.
ENTRYPOINT []
CMD ["livecart", "serve", "--host", "0.0.0.0", "--port", "8000"]
