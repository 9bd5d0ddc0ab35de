"""nginx twice: the provider of whole answers, which is compiled so that it can't be the bottleneck, and the floor: a
reverse proxy that does nothing else."""

import shutil
import subprocess
from pathlib import Path

from bench.processes import Process
from bench.targets import Target, chat, status_of, wait_for
from bench.upstream import COMPLETION, MODELS

_COMMON = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  default_type application/json;
  keepalive_requests 10000000;
  keepalive_timeout 600;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  %s
}
"""
_UPSTREAM = """
  server {
    listen 127.0.0.1:%d backlog=4096;
    location / { return 200 '%s'; }
    location = /v1/models { return 200 '%s'; }
  }
"""
_PROXY = """
  upstream whole { server 127.0.0.1:%d; keepalive 128; keepalive_requests 10000000; }
  upstream streams { server 127.0.0.1:%d; keepalive 128; keepalive_requests 10000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  server {
    listen 127.0.0.1:%d backlog=4096;
    location / { proxy_pass http://whole; }
    location /streams/ { proxy_pass http://streams; proxy_buffering off; }
  }
"""


def upstream(directory: Path, port: int, core: int | None) -> Process:
    return _start(directory, _UPSTREAM % (port, COMPLETION, MODELS), core, port)


def proxy(directory: Path, port: int, upstreams: tuple[int, int], core: int | None) -> Target:
    """To the upstream of whole answers, and to that of streams."""
    process = _start(directory, _PROXY % (*upstreams, port), core, port)
    streams = chat(port, path="/streams/chat/completions", stream=True)
    return Target("nginx, reverse proxy", process, chat(port, stream=False), streams)


def binary() -> str | None:
    """Debian keeps it out of a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def version() -> str:
    return (
        subprocess.run([str(binary()), "-v"], capture_output=True, text=True, check=True)
        .stderr.strip()
        .rpartition("/")[2]
    )


def _start(directory: Path, servers: str, core: int | None, port: int) -> Process:
    directory.mkdir()
    (directory / "nginx.conf").write_text(_COMMON % servers)
    command = [str(binary()), "-p", f"{directory}/", "-c", "nginx.conf", "-e", "stderr"]
    process = Process(command, directory=directory, core=core)
    wait_for(process, lambda: status_of(port, "/") != 0, seconds=10, what="nginx's first answer")
    return process
