"""Tricks left in the home or the log for whoever opens them from outside, root above all."""

import errno

from tests.sandbox.battery.attempt import Attempt, Control, gives, refused


def _plant(name: str, program: str, then: str = "home_opens_again") -> Attempt:
    return Attempt("planted", name, program + '\nresult = "planted"', gives("planted"), Control.NONE, then=then)


PLANTED = (
    _plant("lost+found as a link to the host", """
path = F["home_here"] + "/lost+found"
if os.path.isdir(path) and not os.path.islink(path):
    os.rmdir(path)
if not os.path.lexists(path):
    os.symlink(F["host_folder"], path)
"""),
    _plant("links to what only root reads", """
for name, target in (("shadow", "/etc/shadow"), ("root", "/root"), ("up", "../../.."), ("self", "self"), (".jupyter", F["host_folder"])):
    path = F["home_here"] + "/" + name
    if not os.path.lexists(path):
        os.symlink(target, path)
"""),
    _plant("a FIFO, a socket and a file that never ends", """
for name in (".bashrc", ".profile", "log"):
    path = F["home_here"] + "/" + name
    if os.path.lexists(path):
        os.unlink(path)
    os.mkfifo(path)
s = socket.socket(socket.AF_UNIX)
path = F["home_here"] + "/socket"
if os.path.lexists(path):
    os.unlink(path)
s.bind(path)
with open(F["home_here"] + "/sparse", "wb") as f:
    f.truncate(30 << 20)
"""),
    _plant("a home that its owner closed", 'os.chmod(F["home_here"], 0)'),
    _plant("names that no tool likes", r"""
for name in (b"-rf", b"\x1b[2J\x1b]0;pwned\x07", b"\xff\xfe", b"a\nb", b"$(reboot)", b"n" * 255):
    os.close(os.open(os.fsencode(F["home_here"]) + b"/" + name, os.O_CREAT | os.O_WRONLY))
"""),
    _plant("a tree that is deep", """
here = os.getcwd()
os.chdir(F["home_here"])
for _ in range(300):
    os.makedirs("d" * 60, exist_ok=True)
    os.chdir("d" * 60)
os.chdir(here)
"""),
    _plant("hard links by the hundred", """
path = F["home_here"] + "/one"
open(path, "w").close()
for n in range(500):
    if not os.path.lexists(f"{path}-{n}"):
        os.link(path, f"{path}-{n}")
"""),
    Attempt("planted", "a mount over the home", 'libc.mount(b"/tmp", F["home_here"].encode(), None, 4096, None)\nraise OSError(ctypes.get_errno(), "mount")', refused(errno.EPERM), Control.NONE),
    Attempt("planted", "escape codes in the log", r"""
os.write(2, b"\x1b]0;pwned\x07\x1b[2J\x1b[31mred\r\x9b31m\xe2\x80\xae done\n")
result = "planted"
""", gives("planted"), Control.NONE, then="log_is_plain", in_server=True),
)  # fmt: skip
