# A server for one bundle: docker build -t duologue . ; see compose.yaml for a frozen model beside it.
FROM python:3.12-slim

WORKDIR /opt/duologue
COPY . .
# torch without CUDA: a decision takes less than a millisecond on a CPU
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[train,local,serve]' \
 && useradd --create-home --uid 10001 duologue

USER duologue
WORKDIR /home/duologue
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# The bundle is mounted at /bundle; DUOLOGUE_KEYS holds the clients' keys. Further settings follow as name=value.
ENTRYPOINT ["duologue", "serve", "policy=/bundle", "host=0.0.0.0", "port=8000"]
CMD ["alias=my-model"]
