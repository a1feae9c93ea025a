"""What can be reached by a socket: the service, the host, neighbours, the lab, the cloud, the kernel."""

import errno

from tests.sandbox.battery.attempt import Attempt, Control, gives, refused

NO_WAY = refused()
DENIED = refused(errno.EPERM, errno.EACCES)
NO_KIND = refused(errno.EPROTONOSUPPORT)

NETWORK = (
    Attempt("network", "the proxy's API, the gate, the pages on the host's loopback", 'result = reach("127.0.0.1", F["loopback_port"])', NO_WAY),
    Attempt("network", "the host's loopback as 0.0.0.0", 'result = reach("0.0.0.0", F["loopback_port"])', NO_WAY),
    Attempt("network", "the host's loopback as 127.1.2.3", 'result = reach("127.1.2.3", F["wild_port"])', NO_WAY),
    Attempt("network", "the host's loopback as localhost", 'result = reach("localhost", F["loopback_port"])', NO_WAY),
    Attempt("network", "the host's loopback by IPv6", 'result = reach("::1", F["wild6_port"], socket.AF_INET6)', NO_WAY, lacking=frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})),
    Attempt("network", "the host's loopback as a mapped address", 'result = reach("::ffff:127.0.0.1", F["loopback_port"], socket.AF_INET6)', NO_WAY, lacking=frozenset({errno.EAFNOSUPPORT})),
    Attempt("network", "another port beside the hub", 'result = reach(F["hub_address"], F["beside_port"])', NO_WAY),
    Attempt("network", "the host's public address", 'result = reach(F["host_public"], F["wild_port"])', NO_WAY),
    Attempt("network", "the host's public address at an allowed port", 'result = reach(F["host_public"], 443)', NO_WAY),
    Attempt("network", "the host's private address", 'result = reach(F["host_private"], F["wild_port"])', NO_WAY),
    Attempt("network", "the host's private address, mapped", 'result = reach("::ffff:" + F["host_private"], F["wild_port"], socket.AF_INET6)', NO_WAY),
    Attempt("network", "a neighbour's server", """
# Without root the same address is this runtime's own loopback, so what counts is who answers.
with socket.create_connection((F["neighbour_address"], F["neighbour_port"]), 2) as s:
    s.sendall(b"result = open('/home/member/diary').read()")
    s.shutdown(socket.SHUT_WR)
    if b"bob's" not in s.recv(1000):
        raise OSError(errno.ECONNREFUSED, "that was our own server")
result = "reached"
""", NO_WAY),
    Attempt("network", "a neighbour's server by the host", 'result = reach(F["host_public"], F["neighbour_port"])', NO_WAY, Control.NONE),
    Attempt("network", "the cloud's metadata", 'result = reach(F["metadata"], 80)', NO_WAY),
    Attempt("network", "the cloud's metadata as a number", 'result = reach("2852039166", 80)', NO_WAY),
    Attempt("network", "the cloud's metadata, mapped", 'result = reach("::ffff:169.254.169.254", 80, socket.AF_INET6)', NO_WAY),
    Attempt("network", "Azure's service for its machines", 'result = reach("168.63.129.16", 80)', NO_WAY),
    Attempt("network", "the lab's private range", 'result = reach(F["private"], 443)', NO_WAY),
    Attempt("network", "a port that is not allowed", 'result = reach(F["outside"], 22)', NO_WAY),
    Attempt("network", "an allowed port at an allowed address", """
if reach(F["outside"], 443) != "reached":
    raise OSError(errno.ENETUNREACH, "nothing works")
result = "reached"
""", gives("reached"), Control.NONE),
    Attempt("network", "another resolver", 'result = ask(F["outside"], 53)', NO_WAY),
    Attempt("network", "another resolver by TCP", 'result = reach(F["private"], 53)', NO_WAY, Control.NONE),
    Attempt("network", "the gateway as a resolver", 'result = ask(F["hub_address"], F["dns_port"])', NO_WAY),
    Attempt("network", "another service of the resolver", 'result = ask(F["resolver"], 123)', NO_WAY),
    Attempt("network", "a name that leads to a private address", """
names = {"lab.example": F["private"], "meta.example": F["metadata"], "hub.example": "127.0.0.1"}
# What a hostile resolver would answer: the answer is worth nothing, because addresses are judged and not names.
found = []
for name, address in names.items():
    try:
        found.append(reach(address, 80 if address != "127.0.0.1" else F["loopback_port"]))
    except OSError:
        pass
result = found
""", gives([])),
    Attempt("network", "UDP to the outside", 'result = ask(F["outside"], 443)', NO_WAY, Control.NONE),
    Attempt("network", "the broker's socket", """
with socket.socket(socket.AF_UNIX) as s:
    s.connect(F["broker"])
result = "reached"
""", refused(errno.ENOENT)),
    Attempt("network", "an abstract socket of the host", """
with socket.socket(socket.AF_UNIX) as s:
    s.connect("\\0" + F["abstract"])
result = "reached"
""", refused(errno.ECONNREFUSED)),
    Attempt("network", "an abstract socket of a neighbour", """
with socket.socket(socket.AF_UNIX) as s:
    s.connect("\\0" + F["neighbour_abstract"])
result = "reached"
""", refused(errno.ECONNREFUSED), Control.NONE),
    Attempt("network", "the system bus", """
with socket.socket(socket.AF_UNIX) as s:
    s.connect("/run/dbus/system_bus_socket")
""", refused(errno.ENOENT), Control.NONE),
    Attempt("network", "a raw socket", 'socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(); result = "made"', DENIED),
    Attempt("network", "a raw socket by IPv6", 'socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58).close(); result = "made"', DENIED, lacking=frozenset({errno.EAFNOSUPPORT})),
    Attempt("network", "a packet socket", 'socket.socket(17, socket.SOCK_RAW, 0x0300).close(); result = "made"', DENIED, lacking=frozenset({errno.EAFNOSUPPORT})),
    Attempt("network", "vsock to the hypervisor", 'socket.socket(40, socket.SOCK_STREAM).close(); result = "made"', DENIED, lacking=frozenset({errno.EAFNOSUPPORT})),
    Attempt("network", "the kernel's ciphers", 'socket.socket(38, socket.SOCK_SEQPACKET).close(); result = "made"', DENIED, lacking=frozenset({errno.EAFNOSUPPORT})),
    *(Attempt("network", f"netlink for {kind}", f'socket.socket(16, socket.SOCK_RAW, {number}).close(); result = "made"', DENIED, lacking=frozenset({errno.EPROTONOSUPPORT}))
      for kind, number in (("netfilter", 12), ("audit", 9), ("events", 15), ("connectors", 11), ("IPsec", 6), ("sockets", 4))),
    *(Attempt("network", f"the protocol {kind}", f'socket.socket(2, {type_}, {number}).close(); result = "made"', NO_KIND, lacking=frozenset({errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}))
      for kind, type_, number in (("SCTP", 1, 132), ("DCCP", 6, 33), ("UDP-Lite", 2, 136), ("MPTCP", 1, 262), ("L2TP", 2, 115))),
    Attempt("network", "another address on the interface", """
import subprocess
done = subprocess.run(["/usr/sbin/ip", "addr", "add", "198.51.100.9/32", "dev", "lo"], capture_output=True)
result = done.returncode != 0
""", gives(True), Control.NONE),
    Attempt("network", "the filter's rules", """
with socket.socket() as s:
    s.getsockopt(0, 64, 84)
""", refused(errno.EPERM, errno.ENOPROTOOPT), Control.NONE),
    Attempt("network", "protocols on top of TCP", """
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as s:
    s.setsockopt(socket.IPPROTO_TCP, 31, b"tls")
result = "set"
""", DENIED, lacking=frozenset({errno.ENOENT})),
    Attempt("network", "a repaired connection", """
with socket.socket() as s:
    s.setsockopt(socket.IPPROTO_TCP, 19, 1)
result = "set"
""", DENIED, lacking=frozenset({errno.ENOPROTOOPT})),
    Attempt("network", "a transparent socket", """
with socket.socket() as s:
    s.setsockopt(socket.IPPROTO_IP, 19, 1)
result = "set"
""", DENIED),
    Attempt("network", "a marked packet", """
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, 36, 7)
result = "set"
""", DENIED),
    Attempt("network", "source routing", """
with socket.socket() as s:
    s.setsockopt(socket.IPPROTO_IP, 4, bytes([131, 7, 4, *socket.inet_aton(F["private"]), 1]))
    s.settimeout(2)
    s.connect((F["outside"], 443))
    s.recv(1)
result = "reached"
""", refused(), Control.NONE),
    Attempt("network", "a privileged port", """
with socket.socket() as s:
    s.bind(("0.0.0.0", 99))
result = "bound"
""", DENIED),
)  # fmt: skip
