"""Names of programs that say little: those that only talk about others, and those that everybody uses."""

_TALKERS = """
grep egrep fgrep rg ag ack echo printf cat less more head tail sed awk tr cut sort uniq wc ls ll dir tree stat find
which whereis type man info apropos file strings diff pkill killall kill pgrep ps test [ [[ rm rmdir mkdir touch cd
true false export set unset read alias history vi vim nano code tee cp mv ln tar unzip zip gunzip chown du df lsof
"""
_COMMON = """
main.py run.py app.py demo.py train.py predict.py inference.py start.py runner.py launch.py ui.py swap.py java php
ssh bash sh zsh git docker podman curl wget service systemctl apt apt-get dpkg sudo npx make screen tmux sleep serve
vlc ab mz nc lt get send connect login open post choice session .get .send .connect .login .open .post .session .idle
"""
# They look for words, show them or clean up. A clause meets them only when it names them.
TALKERS = frozenset(_TALKERS.split())
# Too common to look for before parsing: they would send nearly every cell to the parser.
COMMON = TALKERS | frozenset(_COMMON.split())
