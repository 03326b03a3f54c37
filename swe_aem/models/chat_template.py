"""`ChatTemplate`: the chat template of a model's files, rendered as transformers renders it, without transformers."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from swe_aem.agent.families.files import known_files
from swe_aem.errors import UserError
from swe_aem.models.files import json_of
from swe_aem.policy import Tokenizer

_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateRefused(Exception):
    """The template raised, as templates do for conversations that their model was not trained on, or wrote nothing."""


class ChatTemplate:
    """A chat template with the special tokens that it may name."""

    def __init__(self, source: str, where: str, tokens: Mapping[str, str]) -> None:
        """Raises `UserError` if `source`, which is from `where`, is no template."""
        import jinja2

        self._tokens = tokens
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(f"{where}: no chat template that Jinja can read: {error}") from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), **switches: Any
    ) -> str:
        """The text of a prompt, up to where the assistant speaks. `switches` are variables such as enable_thinking.

        Raises `TemplateRefused` if the template raises, or writes nothing.
        """
        values = {"messages": list(messages), "tools": list(tools) or None, "documents": None}
        try:
            text = self._template.render(**self._tokens, **values, add_generation_prompt=True, **switches)
        except Exception as error:  # a template is a program of its own: it may raise anything
            raise TemplateRefused(f"{type(error).__name__}: {error}") from error
        if not text.strip():
            raise TemplateRefused("it writes nothing")
        return text


def chat_template_of(tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template beside a tokenizer's file, that for tools where there are several; None if there is none.

    Raises `UserError` for a file that cannot be read.
    """
    source = known_files(tokenizer).template
    if source is None or tokenizer.file is None:
        return None
    described = json_of(tokenizer.file.with_name("tokenizer_config.json"))
    tokens = {name: text for name in _TOKENS if (text := _text_of(described.get(name))) is not None}
    return ChatTemplate(source, str(tokenizer.file.parent), tokens)


def _text_of(token: Any) -> str | None:
    """A special token as tokenizer_config.json has it: its text, or an object that holds the text."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _environment() -> Any:
    """Jinja as transformers sets it up: a sandbox, for a template is a stranger's program."""
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks what an assistant says, which is rendered like anything else."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON that escapes no HTML, as Jinja's own filter would."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> None:
    raise ValueError(message)
