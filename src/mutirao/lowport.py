"""A program without rights of its own that may listen below 1024: 443 and 80, for the proxy."""

from collections.abc import Sequence

FIRST_FREE = 1024
"""Linux keeps the ports below for root unless net.ipv4.ip_unprivileged_port_start says otherwise."""


def with_low_ports(argv: Sequence[str], uid: int) -> tuple[str, ...]:
    """The command as `uid` with CAP_NET_BIND_SERVICE and nothing else, for a caller that is root (setpriv(1))."""
    capability = "net_bind_service"
    return (
        "setpriv",
        *("--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs"),
        *("--inh-caps", f"-all,+{capability}", "--ambient-caps", f"-all,+{capability}"),
        *("--bounding-set", f"-all,+{capability}"),
        # A change of uid forgets the signal that tells it of its parent's death.
        *("--pdeathsig", "KILL"),
        *argv,
    )
