"""The reading room: the one runtime of a member who may not run code, so small that nothing else can be done in it."""

from pathlib import Path

from mutirao.sandbox.spec import NetworkPolicy, ReadOnly

READING_ROOM = "reading room"
"""Its name among sizes; no size of the configuration can have it, because names hold no space."""

MEMORY_MB = 320
CPUS = 0.5
PROCESSES = 64
NETWORK = NetworkPolicy(tcp_ports=(), dns=False)
"""Nothing outside, whatever the configuration opens; only the hub's forwarder answers."""

_INSIDE = "/opt/mutirao-reading"
FILES = ReadOnly(Path(__file__).parent / "reading", _INSIDE)
ARGUMENTS = ("--ServerApp.kernel_manager_class=reading_room.NoKernels",)
ENVIRONMENT = {
    "PYTHONPATH": _INSIDE,
    "PYTHONDONTWRITEBYTECODE": "1",
    # Else a configuration file in the member's home is a program that the server runs.
    "JUPYTERHUB_DISABLE_USER_CONFIG": "1",
}
