"""What the gate refuses by itself, and the notice for each: no case, no strike."""

from enum import Enum

from mutirao.cases.action import Action
from mutirao.cases.notice import Notice, NoticeText


class Refusal(Enum):
    """Why the gate did not pass code on although nobody judged it."""

    NOT_JUDGED = "not_judged"
    NO_SOURCE = "no_source"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"

    @property
    def notice(self) -> Notice:
        """The notice, in every language."""
        texts = {lang: NoticeText(lang, *words, links=()) for lang, words in _WORDS[self].items()}
        return Notice(case=None, action=Action.STOP, category=None, texts=texts)


# A judge that answers too late may still write its record, so "nothing was recorded" would promise too much here.
_NO_DECISION_EN = "This is no decision about you, and your kernel goes on as before."
_NO_DECISION_PT = "Isto não é uma decisão sobre você, e o seu kernel continua como estava."
_NOTHING_EN = "Nothing was recorded about you, and your kernel goes on as before."
_NOTHING_PT = "Nada foi registrado sobre você, e o seu kernel continua como estava."

# title, lead, facts, clause, consequence, next step
_Words = tuple[str, str, tuple[str, ...], str, str, str]
_WORDS: dict[Refusal, dict[str, _Words]] = {
    Refusal.NOT_JUDGED: {
        "en": (
            "Not run: this cell could not be checked",
            "Every cell is checked against the service's policy before it runs. That check failed just now; "
            "the fault is ours, not your code's.",
            (),
            "",
            _NO_DECISION_EN,
            "Run the cell again in a moment. If this stays, tell the people who operate this service.",
        ),
        "pt-BR": (
            "Não executada: esta célula não pôde ser verificada",
            "Toda célula é verificada segundo a política do serviço antes de ser executada. A verificação acabou de "
            "falhar; a falha é nossa, não do seu código.",
            (),
            "",
            _NO_DECISION_PT,
            "Execute a célula de novo daqui a pouco. Se continuar assim, avise quem opera este serviço.",
        ),
    },
    Refusal.NO_SOURCE: {
        "en": (
            "Not run: the request carries no source",
            "The server was asked to run a cell without its source in the request, so the cell could not be checked.",
            (),
            "",
            _NOTHING_EN,
            'Send the cell\'s source as text under "code" in the request.',
        ),
        "pt-BR": (
            "Não executada: o pedido não traz o código",
            "O servidor recebeu um pedido para executar uma célula sem o código dela; por isso não foi possível "
            "verificá-la.",
            (),
            "",
            _NOTHING_PT,
            'Envie o código da célula como texto no campo "code" do pedido.',
        ),
    },
    Refusal.TOO_LARGE: {
        "en": (
            "Not run: the request is too large",
            "The request is larger, or unfolds into more, than this service reads before a cell runs.",
            (),
            "",
            _NOTHING_EN,
            "Split the cell. Keep data out of it: upload it as a file and read it from there.",
        ),
        "pt-BR": (
            "Não executada: o pedido é grande demais",
            "O pedido é maior, ou se desdobra em mais, do que este serviço lê antes de executar uma célula.",
            (),
            "",
            _NOTHING_PT,
            "Divida a célula e deixe os dados fora dela: envie-os como arquivo e leia-os de lá.",
        ),
    },
    Refusal.UNREADABLE: {
        "en": (
            "Not run: the request could not be read",
            "The request is not JSON as the Jupyter protocol describes it, so the cell could not be checked.",
            (),
            "",
            _NOTHING_EN,
            "Send a JSON object in UTF-8, uncompressed, with each key once.",
        ),
        "pt-BR": (
            "Não executada: não foi possível ler o pedido",
            "O pedido não é um JSON como o protocolo do Jupyter descreve; por isso não foi possível verificar a "
            "célula.",
            (),
            "",
            _NOTHING_PT,
            "Envie um objeto JSON em UTF-8, sem compressão, com cada chave uma única vez.",
        ),
    },
}
