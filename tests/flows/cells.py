"""One cell of every category that the first pack does not let run: outward marks only, nothing here does harm.

The addresses are of the ranges and names reserved for documentation (RFC 5737, RFC 2606).
"""

from mutirao.policy.category import Category

DISALLOWED = {
    Category.MINING: "!./xmrig -o stratum+tcp://pool.example.org:3333 -u wallet -p x",
    Category.DOS: "!python3 start.py UDP 203.0.113.7:80 100 3600",
    Category.PASSWORD_CRACKING: "!hashcat -m 1000 -a 0 hashes.txt rockyou.txt",
    Category.P2P: "!transmission-cli 'magnet:?xt=urn:btih:0000000000000000000000000000000000000000'",
    Category.PROXY: "!./v2ray run -c config.json",
    Category.REMOTE_ACCESS: "!/usr/sbin/sshd -p 2222 -D",
    Category.FILE_HOSTING: "!filebrowser -r /home/member -p 8080 -a 0.0.0.0 --noauth &",
    Category.MULTI_ACCOUNT: """from IPython.display import Javascript
display(Javascript('function ClickConnect(){document.querySelector("colab-connect-button").click()} setInterval(ClickConnect, 60000)'))""",
    Category.DEEPFAKE: "!python main.py train --training-data-src-dir src/aligned --training-data-dst-dir dst/aligned --model-dir model --model SAEHD",
}
