# One image for every process: the code location and its runs, Dagster's daemon and web server, the
# service. The command says which. Build it from a checkout:
#
#   docker build -t rekognition-dagster:0.1.0 .

FROM python:3.12-slim-bookworm

# What OpenCV's wheel is linked against and a slim image lacks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 rekognition \
    && install --directory --owner rekognition /opt/dagster/storage /var/lib/rekognition /lake
ENV DAGSTER_HOME=/opt/dagster PYTHONUNBUFFERED=1

WORKDIR /opt/rekognition-dagster
COPY pyproject.toml README.md LICENSE build/
COPY rekognition_dagster build/rekognition_dagster
RUN pip install --no-cache-dir './build[engine,service,postgres]' \
        'dagster-webserver>=1.13.14,<1.14' 'dagster-k8s>=0.29.14,<0.30' \
    && rm -rf build
COPY definitions.py workspace.yaml ./
COPY assets assets

USER rekognition
# The embedded models, so that nothing is fetched when it runs.
RUN rekognition-dagster models pull
EXPOSE 3000 4000 8722
STOPSIGNAL SIGTERM
CMD ["python", "-m", "rekognition_dagster.service", "--host", "0.0.0.0", "--store", "/var/lib/rekognition"]
