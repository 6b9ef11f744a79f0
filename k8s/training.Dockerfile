# The image of the pods: stages with PyTorch for CUDA. Build it first; the control image takes its versions from it.
#   docker build -f k8s/training.Dockerfile --build-arg GIT_COMMIT=$(git rev-parse HEAD) -t REGISTRY/codellm-dag/training:TAG .
# PyTorch's wheels bring CUDA's libraries along; the driver is the node's, put in by the NVIDIA container toolkit.
FROM python:3.11-slim-bookworm AS build

# Frameworks beside the Hugging Face Trainer: the extras of pyproject.toml, which pin versions that agree on one PyTorch.
ARG EXTRAS="deepspeed,lora,vllm"

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY codellm_dag codellm_dag
COPY assets assets
COPY resources resources
# DeepSpeed compiles its operators when they are first used, not here. The pinned sources of the corpora come along:
# a pod asks no package index for anything.
# DeepSpeed's build asks for the PyTorch that is there, hence two steps and no isolation.
RUN pip install -c constraints.txt . \
    && pip install setuptools==84.2.1 wheel==0.48.0 \
    && DS_BUILD_OPS=0 pip install --no-build-isolation -c constraints.txt ".[$EXTRAS]" \
    && python -m codellm_dag.corpora.fetch --into /opt/codellm-dag/packages \
    && python -VV > /opt/codellm-dag/python

# Outside frameworks, each in an environment of its own (docs/frameworks.md); none by default, several GB each.
# The build machine has no driver to ask, so the CUDA build of PyTorch is named.
ARG FRAMEWORKS=""
ARG TORCH_BACKEND="cu130"
RUN if [ -n "$FRAMEWORKS" ]; then \
      CODELLM_ENVIRONMENTS=/opt/codellm-dag/environments CODELLM_TORCH_BACKEND="$TORCH_BACKEND" \
        codellm-dag environments build $FRAMEWORKS; \
    fi

FROM python:3.11-slim-bookworm

# A C compiler for torch.compile and DeepSpeed's operators, at Debian's version: its mirrors keep no older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ ninja-build \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/codellm-dag /opt/codellm-dag

ARG GIT_COMMIT=""
ENV PATH=/opt/venv/bin:$PATH \
    CODELLM_GIT_COMMIT=$GIT_COMMIT \
    CODELLM_ENVIRONMENTS=/opt/codellm-dag/environments \
    CODELLM_PACKAGES=/opt/codellm-dag/packages \
    HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    TORCH_EXTENSIONS_DIR=/scratch/.cache/torch_extensions

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin stage
USER 10001:10001
WORKDIR /tmp
CMD ["python", "-m", "codellm_dag.stages.entry", "--help"]
