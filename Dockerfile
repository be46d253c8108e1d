# The web page and the REST interface (docs/serve.md):
#   docker build -t mfclip .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 127.0.0.1:8000:8000 -e MFCLIP_API_KEY mfclip
# torch without CUDA keeps the image small: name the package index of its CPU builds, which PyTorch's
# installation page gives:
#   docker build --build-arg TORCH_INDEX=https://... -t mfclip .

FROM python:3.11-slim AS build
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
WORKDIR /build
COPY constraints.txt ./
RUN /venv/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE LICENSE-WEIGHTS NOTICE ./
COPY src src
RUN /venv/bin/pip install --constraint constraints.txt ".[serve]"

FROM python:3.11-slim
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=build /venv /venv
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v1/health', timeout=4)"]
ENTRYPOINT ["mfclip", "serve", "--host", "0.0.0.0"]
