"""The programs themselves, with the files that their pods would have.

Each pod's folder is laid out as the kubelet does it: out of the rendered ConfigMaps, the secrets that secrets.sh makes with a
real kubectl, and certificates that `picopay certs` makes. Then `picopay config check` reads it, and the gateway, a node of
every shard and Redis are started with the very command lines of their containers. Only the ports are others.
"""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

import yaml

from objects import container, name_of, ports
from pods import cluster_toml
from tools import HERE, KUBECTL, NAMESPACE, PROGRAMS, RELEASE, run

# Much longer than any start, also where a machine is busy or stops us for minutes. Who waits looks again and again.
PATIENCE_SECONDS = 900


def make_secrets(folder, objects):
    """What secrets.sh makes for this cluster, by name, and CloudNativePG's own. Nothing is sent to a Kubernetes."""
    kubectl = folder / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho ---\nexec {KUBECTL} "$@" --dry-run=client --output=yaml\n')
    kubectl.chmod(0o755)
    environment = {**os.environ, "KUBECTL": str(kubectl), "PICOPAY": str(PROGRAMS / "picopay"), "KUBECONFIG": "/dev/null"}
    shards = objects.shards()
    nodes = max(len(shard["nodes"]) for shard in cluster_toml(objects)["shards"])
    made = {}
    for more in ([], ["--tls", str(folder / "certs"), RELEASE, " ".join(shards), str(nodes), "pay.example"]):
        done = subprocess.run([HERE / "secrets.sh", NAMESPACE, *more], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"secrets.sh {' '.join(more)}: {done.stdout}{done.stderr}")
        made.update((one["metadata"]["name"], one) for one in yaml.safe_load_all(done.stdout) if one)
    return made


def operators_secrets(objects, made):
    """Stands for what CloudNativePG makes: any authority's certificate."""
    authority = made["picopay-node-tls"]["data"]["ca.crt"]
    names = [f"{cluster['metadata']['name']}-ca" for cluster in objects.of("Cluster")]
    return {name: {"data": {"ca.crt": authority}} for name in names}


def lay_out(folder, template, objects, secrets):
    """The files of the pod's volume `config`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (volume,) = [one for one in template["spec"]["volumes"] if one["name"] == "config"]
    for source in volume["projected"]["sources"]:
        if "configMap" in source:
            for file, text in objects.named("ConfigMap", source["configMap"]["name"])["data"].items():
                (folder / file).write_text(text)
        else:
            data = secrets[source["secret"]["name"]]["data"]
            for item in source["secret"]["items"]:
                (folder / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))


def command_of(template, folder):
    """The container's own command line, with this machine's programs and folder."""
    (mount,) = [one for one in container(template)["volumeMounts"] if one["name"] == "config"]
    return [
        word.replace(mount["mountPath"], str(folder)).replace("/usr/local/bin", str(PROGRAMS))
        for word in container(template)["command"]
    ]


def config_faults(objects, folder, secrets):
    """`picopay config check` finds nothing in any pod's folder."""
    for one, template in objects.workloads():
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        if component == "redis":
            continue
        lay_out(folder, template, objects, secrets)
        code, said = run(PROGRAMS / "picopay", "config", "check", "--output", "json", "--cluster", folder / "cluster.toml")
        if code:
            yield f"{name_of(one)}: {said}"
            continue
        report = json.loads(said)
        shards = [shard["shard"] for shard in report["shards"]]
        files = (len(report["gateways"]), len(report["nodes"]))
        if sorted(shards) != objects.shards() or files != (component == "gateway", component == "node"):
            yield f"{name_of(one)}: it reads shards {shards} and (gateway, node) files {files}"


def option_faults(objects):
    """The commands of the jobs are commands of `picopay`, with options that it has."""
    for one, template in objects.workloads():
        program, *words = container(template)["command"]
        if program != "/usr/local/bin/picopay":
            continue
        _, help_text = run(PROGRAMS / "picopay", words[0], "--help")
        known = {word.rstrip(",") for word in help_text.split()}
        for option in (word for word in words if word.startswith("--")):
            if option not in known:
                yield f"{name_of(one)}: `picopay {words[0]}` has no {option}"


def running_faults(objects, folder, secrets):
    """The gateway, a node of each shard and Redis start, and answer where probes and Prometheus ask."""
    yield from gateway_faults(objects, folder / "gateway", secrets)
    for shard in objects.shards():
        yield from node_faults(objects, folder / shard, secrets, shard)
    if objects.workload("redis"):
        yield from redis_faults(objects, folder / "redis", secrets)


def gateway_faults(objects, folder, secrets):
    one, template = objects.workload("gateway")
    lay_out(folder, template, objects, secrets)
    public, admin = free_port(), free_port()
    environment = {
        "PICOPAY_GATEWAY__LISTEN": f"127.0.0.1:{public}",
        "PICOPAY_GATEWAY__ADMIN__LISTEN": f"127.0.0.1:{admin}",
    }
    paths = {*probe_paths(template, "admin"), *scraped_paths(objects, "admin")}
    with started(command_of(template, folder), environment) as process:
        for path in sorted(paths):
            # No database is there, so it is not ready; a path that it does not have is 404.
            wanted = 503 if path == "/readyz" else 200
            status = ask(process, admin, path)
            if status != wanted:
                yield f"{name_of(one)}: {path} of the admin address answers {status}, not {wanted}"
        tls = client_tls(folder, "caller-ca.pem") if (folder / "gateway.pem").exists() else None
        status = ask(process, public, "/metrics", tls, "pay.example")
        if status != 404:
            yield f"{name_of(one)}: clients can see its metrics ({status})"


def node_faults(objects, folder, secrets, shard):
    one, template = objects.workload("node", shard)
    lay_out(folder, template, objects, secrets)
    port = free_port()
    is_tls = (folder / "node.pem").exists()
    tls = client_tls(folder, "caller-ca.pem", "caller") if is_tls else None
    names = [url.split("://")[1].split(":")[0] for url in urls_of(objects, shard)]
    names += [
        endpoint["tlsConfig"]["serverName"]
        for monitor in objects.of("ServiceMonitor")
        for endpoint in monitor["spec"]["endpoints"]
        if "tlsConfig" in endpoint and monitor["spec"]["selector"]["matchLabels"].get("picopay/shard") == shard
    ]
    with started(command_of(template, folder), {"PICOPAY_NODE__LISTEN": f"127.0.0.1:{port}"}) as process:
        for path in sorted({*probe_paths(template, "node"), *scraped_paths(objects, "node"), "/health"}):
            for name in names if is_tls else [None]:
                status = ask(process, port, path, tls, name)
                if status != 200:
                    yield f"{name_of(one)}: {path} as {name} answers {status}"
        if is_tls:
            bare = client_tls(folder, "caller-ca.pem")
            with contextlib.suppress(OSError, http.client.HTTPException):
                yield f"{name_of(one)}: it answers {fetch(port, '/health', bare, names[0])} to somebody without a certificate"


def redis_faults(objects, folder, secrets):
    one, template = objects.workload("redis")
    lay_out(folder, template, objects, secrets)
    program = shutil.which("redis-server") or "/usr/bin/redis-server"
    command = [program, *command_of(template, folder)[1:]]
    data = folder / "data"
    data.mkdir()
    command = [str(data) if word == "/data" else word for word in command]
    port = free_port()
    is_tls = "--tls-port" in command
    # The last word counts.
    command += ["--tls-port" if is_tls else "--port", str(port), "--bind", "127.0.0.1"]
    node = folder.parent / objects.shards()[0]
    password = (node / "redis").read_text()
    tls = client_tls(node, "redis-ca.pem", "caller") if is_tls else None
    with started(command, {}) as process:
        wait_for_port(process, port)
        for said, wanted in [
            ("PING\r\n", "-NOAUTH"),
            ("AUTH picopay wrong\r\n", "-WRONGPASS"),
            (f"AUTH picopay {password}\r\n", "+OK"),
        ]:
            answer = say(port, said, tls, RELEASE + "-redis")
            if not answer.startswith(wanted):
                yield f"{name_of(one)}: to {said.split()[0]} it says {answer.strip()}, not {wanted}"


def urls_of(objects, shard):
    return next(one["nodes"] for one in cluster_toml(objects)["shards"] if one["name"] == shard)


def probe_paths(template, port):
    probes = [container(template).get(f"{kind}Probe", {}).get("httpGet") for kind in ("liveness", "readiness", "startup")]
    return [probe["path"] for probe in probes if probe and probe["port"] == port]


def scraped_paths(objects, port):
    endpoints = [one for monitor in objects.of("ServiceMonitor") for one in monitor["spec"]["endpoints"]]
    return [endpoint["path"] for endpoint in endpoints if endpoint["port"] == port]


@contextlib.contextmanager
def started(command, environment):
    """A program while it is asked. It ends at the second signal, at the latest when it is killed."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def wait_for_port(process, port):
    """Until somebody listens there."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args[0]} ended with {process.returncode}: {process.stdout.read()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{process.args[0]} does not listen on {port} after {PATIENCE_SECONDS} s") from None
        time.sleep(0.05)


def ask(process, port, path, tls=None, name=None):
    wait_for_port(process, port)
    return fetch(port, path, tls, name)


def fetch(port, path, tls=None, name=None):
    with connection(port, tls, name) as line:
        asked = http.client.HTTPConnection("127.0.0.1", port)
        asked.sock = line
        asked.request("GET", path, headers={"Host": name or "127.0.0.1"})
        return asked.getresponse().status


def say(port, text, tls, name):
    with connection(port, tls, name) as line:
        line.sendall(text.encode())
        return line.recv(1000).decode()


def connection(port, tls, name):
    line = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    return tls.wrap_socket(line, server_hostname=name) if tls else line


def client_tls(folder, authority, identity=None):
    tls = ssl.create_default_context(cafile=str(folder / authority))
    if identity:
        tls.load_cert_chain(folder / f"{identity}.pem", folder / f"{identity}.key")
    return tls


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
