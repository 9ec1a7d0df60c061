# What PicoPay runs on, of the same Debian as the programs: one stage for each kind of server.
# Debian's stable release changes packages only to mend them, so no version is pinned here (.hadolint.yaml).

FROM debian:bookworm-slim AS redis
# Numbers of our own: they own files in volumes, and Debian gives out others from image to image.
RUN groupadd --gid 65530 redis && useradd --uid 65530 --gid redis --home-dir /nonexistent redis \
    && apt-get update \
    && apt-get install --yes --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/compose/images/redis.conf deploy/compose/images/redis.tls.conf /etc/picopay/
COPY deploy/compose/images/redis.sh /usr/local/bin/picopay-redis
USER 65530:65530
WORKDIR /tmp
CMD ["picopay-redis"]

FROM debian:bookworm-slim AS postgres
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
# Debian's package makes a server of its own unless it is told not to.
RUN groupadd --gid 65531 postgres && useradd --uid 65531 --gid postgres --home-dir /var/lib/postgresql postgres \
    && mkdir -p /etc/postgresql-common/createcluster.d \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/picopay.conf \
    && apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-15 \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql \
    && install --directory --owner=postgres --group=postgres --mode=0700 /var/lib/postgresql
COPY deploy/compose/images/postgresql.conf deploy/compose/images/postgresql.tls.conf \
     deploy/compose/images/pg_hba.conf deploy/compose/images/pg_hba.tls.conf deploy/compose/images/roles.sh /etc/picopay/
COPY deploy/compose/images/postgres.sh /usr/local/bin/picopay-postgres
COPY deploy/compose/images/postgres-health.sh /usr/local/bin/picopay-postgres-health
USER 65531:65531
WORKDIR /var/lib/postgresql
STOPSIGNAL SIGINT
CMD ["picopay-postgres"]

FROM postgres AS patroni
USER 0
RUN apt-get update \
    && apt-get install --yes --no-install-recommends patroni python3-etcd etcd-server \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=postgres --group=postgres --mode=0700 /var/lib/picopay-etcd
COPY deploy/compose/images/patroni.sh /usr/local/bin/picopay-patroni
COPY deploy/compose/images/patroni-roles.sh /usr/local/bin/picopay-patroni-roles
COPY deploy/compose/images/answers.sh /usr/local/bin/picopay-answers
USER 65531:65531
STOPSIGNAL SIGTERM
CMD ["picopay-patroni"]

FROM debian:bookworm-slim AS watch
RUN groupadd --gid 65529 watch && useradd --uid 65529 --gid watch --home-dir /nonexistent watch \
    && apt-get update \
    && apt-get install --yes --no-install-recommends prometheus prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=watch --group=watch --mode=0700 /var/lib/picopay-watch
COPY deploy/compose/images/answers.sh /usr/local/bin/picopay-answers
USER 65529:65529
WORKDIR /var/lib/picopay-watch
CMD ["prometheus", "--version"]
