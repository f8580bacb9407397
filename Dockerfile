# The command line, a runner and the status pages in one image: docker build -t jobrunner . && docker run jobrunner --help
#
# No engine builds it where this project is tested. Instead CI performs the steps of the first stage as they stand here, in
# scratch folders, and starts the result the way the second stage does (tests/packaging.py).
#
# An app goes on top of it:
#     FROM jobrunner
#     COPY . /app
#     CMD ["run", "shop.jobs:app"]
# What the app needs itself is installed as root before that (docs/deployment.md).

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY jobrunner jobrunner
COPY sql sql
RUN python -m venv /opt/jobrunner
RUN /opt/jobrunner/bin/pip install --no-input --no-cache-dir -c constraints.txt .

FROM python:3.13-slim
COPY --from=build /opt/jobrunner /opt/jobrunner
ENV PATH=/opt/jobrunner/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["jobrunner", "health"]
ENTRYPOINT ["jobrunner"]
CMD ["--help"]
