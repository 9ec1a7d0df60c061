"""The cluster behind the page, as the test uses it: charges by HTTP, slots by the operator's command."""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid

GATEWAY = os.environ["CONSOLE_TEST_GATEWAY"]
KEY = os.environ["CONSOLE_TEST_KEY"]
PICOPAY = os.environ["CONSOLE_TEST_PICOPAY"]
CLUSTER_FILE = os.environ["CONSOLE_TEST_CLUSTER"]
NODE_PIDS = [int(pid) for pid in os.environ["CONSOLE_TEST_NODE_PIDS"].split(",")]


def post(path, body, status=200):
    """Sends a write with a key of its own, and returns the answer's JSON."""
    headers = {"X-API-Key": KEY, "Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    request = urllib.request.Request(GATEWAY + path, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            found, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        found, text = error.code, error.read()
    assert found == status, f"{path} {body}: {found} {text!r}"
    return json.loads(text)


def money(user_id, amount, **more):
    return {"user_id": user_id, "amount": amount, "currency": "USD", **more}


def make_user(user_id, amount):
    post("/users", {"user_id": user_id}, 201)
    post("/topup", money(user_id, amount))


def picopay(*words):
    """Runs a command of the operator, and returns what it prints as JSON."""
    command = [PICOPAY, *words, "--cluster", CLUSTER_FILE, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return json.loads(done.stdout)


def freeze_node(shard):
    os.kill(NODE_PIDS[shard], signal.SIGSTOP)


def thaw_node(shard):
    os.kill(NODE_PIDS[shard], signal.SIGCONT)


class Load:
    """Charges of one user, one after the other, until it is left."""

    def __init__(self, user_id):
        self.user_id, self.is_over = user_id, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.is_over.is_set():
            try:
                post("/charge", money(self.user_id, "0.01"))
            except (AssertionError, OSError):
                # A slot that moves may cost a second and more on a busy machine. The page is what is tested here.
                time.sleep(0.1)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
