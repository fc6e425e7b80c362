# dinotools for NVIDIA GPUs.
#
#   docker build -t dinotools .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD":/work dinotools doctor
#   docker run --rm --gpus all --shm-size 8g -v "$PWD":/work -v /datasets:/datasets:ro \
#     dinotools pretrain --preset vanilla --data /datasets/imagenet/train --out runs/vits16 --gpus 8
#
# The wheels of torch bring their own CUDA libraries; the host needs a driver and the NVIDIA Container Toolkit.
# --shm-size: readers hand batches over through shared memory, of which a container has 64 MB otherwise.
FROM python:3.12-slim

ARG TORCH=2.14.1
ARG TORCHVISION=0.29.1
ARG EXTRAS=timm,shards,tiff,tensorboard,onnx

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
# --compile lets Triton write C, which wants a compiler
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN pip install "torch==${TORCH}" "torchvision==${TORCHVISION}"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY dinotools dinotools
COPY recipes recipes
COPY data_manifests data_manifests
RUN pip install ".[${EXTRAS}]" && dinotools --version

# whoever runs it with --user finds a place for weights
ENV DINOTOOLS_CACHE=/cache
RUN mkdir -m 1777 /cache
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["dinotools"]
CMD ["--help"]
