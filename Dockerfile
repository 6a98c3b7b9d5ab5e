# based-serve as a container image. VARIANT=cpu (default) or cuda:
#
#   docker build -t based-serve .
#   docker build -t based-serve:cuda --build-arg VARIANT=cuda .
#   docker run --rm --read-only -p 127.0.0.1:7433:7433 -p 127.0.0.1:7490:7490 based-serve
#
# The build installs and compiles with the functions that CI uses (deploy/setup.sh); the image itself
# is not built in CI, which has no container engine: this file is untested as a whole.
ARG VARIANT=cpu
ARG CUDA=13.0.1

FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS cuda-toolkit

FROM debian:12-slim AS build-cpu
FROM debian:12-slim AS build-cuda
COPY --from=cuda-toolkit /usr/local/cuda /usr/local/cuda
ENV PATH=/usr/local/cuda/bin:$PATH

FROM build-${VARIANT} AS build
ARG VARIANT
WORKDIR /src
# The package list changes rarely: its layer is cached apart from the sources.
COPY deploy/setup.sh deploy/setup.sh
RUN bash -c 'source deploy/setup.sh && install_packages patchelf'
COPY . .
RUN bash deploy/bundle.sh --preset "${VARIANT}" --out /opt/based
# What the bundle leaves to the machine: the CUDA libraries. None for the CPU.
RUN mkdir -p /opt/based/lib && if [ "${VARIANT}" = cuda ]; then \
      cp -L /usr/local/cuda/lib64/libcudart.so.13 /usr/local/cuda/lib64/libcublas.so.13 \
            /usr/local/cuda/lib64/libcublasLt.so.13 /opt/based/lib/; fi

FROM debian:12-slim
COPY --from=build /opt/based /opt/based
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin based
ENV PATH=/opt/based:$PATH LD_LIBRARY_PATH=/opt/based/lib \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
# gRPC, HTTP, metrics. Nothing is written: run it with a read-only root file system.
EXPOSE 7433 7480 7490
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["/opt/based/based", "info", "--address", "127.0.0.1:7433"]
ENTRYPOINT ["/opt/based/based-server"]
# Inside a container every peer is remote. Add TLS and keys, or keep the ports on a private network.
CMD ["--listen=0.0.0.0:7433", "--http_listen=0.0.0.0:7480", "--metrics_listen=0.0.0.0:7490", \
     "--insecure_listen"]
