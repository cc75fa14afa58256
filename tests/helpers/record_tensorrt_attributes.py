"""Records which attributes each TensorRT version has, from NVIDIA's own bindings.

    python tests/helpers/record_tensorrt_attributes.py WHEEL... -o tensorrt_attributes.json

WHEEL: bindings alone, without the libraries, for the Python that runs this; for example from

    pip download --no-deps tensorrt-bindings==8.6.1 tensorrt-cu12-bindings==10.3.0

The libraries that the bindings are linked to are replaced by stubs made here with gcc, whose
functions do nothing: enough to import the module and to look at its classes, not to run anything.
With `tensorrt_rtx` installed, its attributes are recorded too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

#: Those whose attributes the builder and the runner use.
CLASSES = (
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "TensorIOMode",
)
LIST_ATTRIBUTES = """
import importlib, inspect, json, os, sys
sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
module = importlib.import_module(sys.argv[1])
classes = {
    name: " ".join(sorted(a for a in dir(value) if not a.startswith("_")))
    for name, value in sorted(vars(module).items())
    if inspect.isclass(value) and name in sys.argv[2:]
}
members = getattr(module.NetworkDefinitionCreationFlag, "__members__")
print(json.dumps({
    "version": module.__version__,
    "classes": classes,
    "network_flag_bits": {name: int(value) for name, value in members.items()},
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    recorded = [record_wheel(wheel) for wheel in arguments.wheels]
    try:
        recorded.append({"source": "tensorrt_rtx", **list_attributes("tensorrt_rtx", {})})
    except subprocess.CalledProcessError:
        sys.stderr.write("tensorrt_rtx is not installed: not recorded\n")
    arguments.output.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def record_wheel(wheel: Path) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (binary,) = Path(folder).glob("*/tensorrt.so")
        _make_stub_libraries(binary, Path(folder))
        search_path = {"PYTHONPATH": folder, "LD_LIBRARY_PATH": folder}
        return {"source": wheel.name, **list_attributes(binary.parent.name, search_path)}


def _make_stub_libraries(binary: Path, folder: Path) -> None:
    """One library that has every symbol that is missing, and empty ones for the other names."""
    needed = re.findall(r"NEEDED.*\[(.*)\]", _output("readelf", "-d", str(binary)))
    missing_libraries = [name for name in needed if re.match(r"libnv|libcud", name)]
    symbols = [
        line.split()[-1].split("@")[0]
        for line in _output("nm", "-D", "--undefined-only", str(binary)).splitlines()
        if "@" not in line and not re.search(r"\b_?Py", line)
    ]
    source = folder / "stub.c"
    for index, library in enumerate(missing_libraries):
        own = symbols if index == 0 else []
        source.write_text("".join(_stub(symbol) for symbol in own))
        command = ["gcc", "-shared", "-w", "-fPIC", str(source), "-o", str(folder / library)]
        subprocess.run([*command, f"-Wl,-soname,{library}"], check=True)


def _stub(symbol: str) -> str:
    """In C: type information is data and is read while importing, all else is called or not."""
    if re.match("_ZT[ISV]", symbol):
        return f"void *{symbol}[32];\n"
    return f"void *{symbol}(void) {{ return 0; }}\n"


def list_attributes(module: str, environment: dict[str, str]) -> dict[str, object]:
    command = [sys.executable, "-W", "ignore", "-c", LIST_ATTRIBUTES, module, *CLASSES]
    listed: dict[str, object] = json.loads(_output(*command, environment=environment))
    return listed


def _output(*command: str, environment: dict[str, str] | None = None) -> str:
    merged = {**os.environ, **(environment or {})}
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=merged)
    return finished.stdout


if __name__ == "__main__":
    main()
