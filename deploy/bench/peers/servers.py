"""The servers that are compared: how each is installed and started. All get the same cores and the same ONNX files."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import time

from peers import processes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ONNXRUNTIME = ["onnxruntime==1.32.*", "numpy"]
REQUIREMENTS = {
    "triton": ["nvidia-pytriton==0.7.*", *ONNXRUNTIME],
    # MLServer 1.7 does not start on a newer uvloop.
    "mlserver": ["mlserver==1.7.*", "uvloop<0.22", *ONNXRUNTIME],
    "onnxruntime": ["onnx", *ONNXRUNTIME],
}
INSTALL_SECONDS = 300
READY_SECONDS = 60


class Unavailable(Exception):
    """A peer that cannot be had here, and why."""


@dataclasses.dataclass
class Setting:
    """What all servers share."""
    cache: pathlib.Path
    models: pathlib.Path
    cores: set
    binaries: pathlib.Path
    onnxruntime_library: pathlib.Path | None


@dataclasses.dataclass
class Running:
    name: str
    process: subprocess.Popen
    url: str


def venv(cache, name):
    """A folder with the packages of a peer; made once for what it asks for."""
    folder, wanted = cache / f"venv-{name}", "\n".join(REQUIREMENTS[name])
    made = folder / "made-for.txt"
    if not made.exists() or made.read_text() != wanted:
        print(f"installing {name}: {', '.join(REQUIREMENTS[name])}", file=sys.stderr)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True, timeout=60)
            install = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, *REQUIREMENTS[name]], check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            told = getattr(error, "stderr", None) or b""
            raise Unavailable(f"{error} {told.decode(errors='replace')[-300:]}") from error
        made.write_text(wanted)
    return folder


def packages(folder):
    return next(folder.glob("lib/python3*/site-packages"))


def library(cache):
    """ONNX Runtime's library, from the package."""
    found = sorted(packages(venv(cache, "onnxruntime")).glob("onnxruntime/capi/libonnxruntime.so*"))
    if not found:
        raise Unavailable("the onnxruntime package holds no library")
    return found[0]


def _millgate(setting, name, port, with_library):
    http, metrics = processes.free_ports(2)
    config = [
        f'bundle = "{ROOT / "models/factory"}"',
        f'model_repository = ["{setting.models / "onnx"}"]',
        f'grpc = "127.0.0.1:{port}"',
        f'http = "127.0.0.1:{http}"',
        f'metrics = "127.0.0.1:{metrics}"',
        f"threads = {len(setting.cores)}",
    ]
    if with_library:
        path = setting.onnxruntime_library or library(setting.cache)
        config += ["[engines]", 'default = "auto"', f'onnxruntime_library = "{path}"']
    file = setting.cache / f"{name}.toml"
    file.write_text("\n".join(config) + "\n")
    return [setting.binaries / "millgate-cloud", "serve", "--config", file], {}, None


def millgate(setting, port):
    return _millgate(setting, "millgate", port, False)


def millgate_onnxruntime(setting, port):
    return _millgate(setting, "millgate-ort", port, True)


def triton(setting, port):
    """The server itself, from the package, with its Python backend; no proxy in between."""
    folder = venv(setting.cache, "triton")
    own = packages(folder) / "pytriton/tritonserver"
    backends = setting.cache / "triton-backends"
    shutil.rmtree(backends, ignore_errors=True)
    shutil.copytree(own / "backends", backends, ignore=shutil.ignore_patterns("__pycache__"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = own / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise Unavailable(f"the package has no Python backend for Python {version}")
    shutil.copy(stub, backends / "python")
    libraries = [sysconfig.get_config_var("LIBDIR"), packages(folder) / "nvidia_pytriton.libs"]
    env = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        # The backend's interpreter finds its packages through the first `python3`.
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "CUDA_VISIBLE_DEVICES": "",
    }
    http, metrics = processes.free_ports(2)
    command = [
        own / "bin/tritonserver", "--model-repository", setting.models / "triton", "--backend-directory", backends,
        "--grpc-address", "127.0.0.1", "--grpc-port", port, "--http-address", "127.0.0.1", "--http-port", http,
        "--metrics-address", "127.0.0.1", "--metrics-port", metrics,
        "--model-control-mode", "explicit", "--load-model", "*",
    ]
    return command, env, None


def pytriton(setting, port):
    """The same server behind the package's own proxy, as its documentation starts it."""
    folder = venv(setting.cache, "triton")
    libraries = [sysconfig.get_config_var("LIBDIR"), packages(folder) / "nvidia_pytriton.libs"]
    env = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTRITON_HOME": str(setting.cache / "pytriton"),
    }
    command = [
        folder / "bin/python", HERE / "pytriton_server.py", "--models", setting.models / "onnx",
        "--instances", len(setting.cores), "--ports", port, *processes.free_ports(2),
    ]
    return command, env, None


def mlserver(setting, port):
    folder = venv(setting.cache, "mlserver")
    models = setting.models / "mlserver"
    for file in ("mlserver_runtime.py", "sessions.py"):
        shutil.copy(HERE / file, models)
    http, metrics = processes.free_ports(2)
    settings = {
        "host": "127.0.0.1", "http_port": http, "grpc_port": port, "metrics_port": metrics, "debug": False,
        "parallel_workers": len(setting.cores),
    }
    (models / "settings.json").write_text(json.dumps(settings))
    env = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(models)}
    return [folder / "bin/mlserver", "start", "."], env, models


SERVERS = {"millgate": millgate, "millgate-ort": millgate_onnxruntime, "triton": triton, "pytriton": pytriton,
           "mlserver": mlserver}


def _wait(running, load, models):
    end = time.monotonic() + READY_SECONDS
    while running.process.poll() is None:
        try:
            return load(["ready", "--url", running.url, "--patience", "2", *models], 20)
        except RuntimeError:
            if time.monotonic() > end:
                raise
    raise RuntimeError("it ended at once")


def start(name, setting, load, models):
    """Started and ready, or `Unavailable`."""
    [port] = processes.free_ports(1)
    command, env, cwd = SERVERS[name](setting, port)
    log = setting.cache / f"{name}.log"
    running = Running(name, processes.start(command, setting.cores, log, env, cwd), f"http://127.0.0.1:{port}")
    try:
        _wait(running, load, models)
    except (RuntimeError, subprocess.SubprocessError) as error:
        processes.stop(running.process)
        told = log.read_text(errors="replace").strip()[-300:]
        raise Unavailable(f"{error}; its log ends: {told}") from error
    return running
