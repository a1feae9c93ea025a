"""Runs inside a reading room: JupyterLab opens, files are read, changed and downloaded, and no kernel ever starts."""

import os
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError

SAID = {
    "en": "This is the reading room: running code is restricted for you. You can read, change and download your files. "
    "Your home page says why, until when, and how to appeal.",
    "pt-BR": "Esta é a sala de leitura: a execução de código está restrita para você. Você pode ler, alterar e baixar "
    "seus arquivos. A sua página inicial diz por quê, até quando e como recorrer.",
}


class NoKernels(AsyncMappingKernelManager):
    """Answers every start with the reason."""

    async def start_kernel(self, *_args: Any, **_kwargs: Any) -> str:  # type: ignore[override]
        """Refuse, whoever asks and by which way."""
        raise HTTPError(403, SAID.get(os.environ.get("MUTIRAO_LANGUAGE", "en"), SAID["en"]))
