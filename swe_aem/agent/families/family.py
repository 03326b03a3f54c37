"""`Family`: a model family, which is a chat format and the marks by which a model of it is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from swe_aem.agent.families.calls import ReadCalls, read_json
from swe_aem.agent.families.files import ModelFiles
from swe_aem.errors import UserError

if TYPE_CHECKING:
    from swe_aem.agent.renderer import RendererConfig


@dataclass(frozen=True)
class Family:
    """A built-in model family."""

    name: str
    library: str
    """The renderer: the name of a configuration in `renderers.configs`, or `module:class` of one of our own."""
    tokens: tuple[str, ...]
    """Control tokens that its tokenizers have."""
    template: tuple[str, ...]
    """Texts that are all in its chat templates."""
    without: tuple[str, ...] = ()
    """Texts that are in none of its chat templates."""
    models: tuple[str, ...] = ()
    """`model_type`s of its models, which decide where a directory has no chat template."""
    thinking: Literal["switch", "always", "never"] = "switch"
    """Whether thinking can be switched off, and if not, whether the model thinks."""
    switch: str = "enable_thinking"
    """The field of the renderer's configuration that switches thinking."""
    thinks: Callable[[ModelFiles], bool] = lambda files: True
    """Whether a model thinks by default, as its own template has it."""
    efforts: tuple[str, ...] = ()
    """Levels of `reasoning_effort` that its template knows."""
    read: ReadCalls = read_json
    """Reads the tool calls of a response."""
    json_arguments: bool = True
    """False if the format writes each argument by itself."""
    from_files: Callable[[ModelFiles], dict[str, Any]] = lambda files: {}
    """Further fields of the renderer's configuration, by what the model's own template writes."""
    describes_tools: bool = True
    """False if its template tells a model nothing of the tools that there are."""
    template_has_tools: bool = True
    """False if tools are described beside the template, which says nothing of them."""
    sorts_tools: bool = False
    """True if the model's own tokenizer sorts the keys of tools before its template writes them."""
    parallel: bool = True
    """False if a call ends the response, so that there is one in each."""
    own_ids: bool = False
    """True if the format repeats the id or the name of a call in what answers it, as the model wrote them."""

    def configuration(self, config: "RendererConfig", files: ModelFiles) -> Any:
        """The library's configuration. Raises `UserError` for a setting that the family does not have."""
        from renderers import configs

        # "all": an observation may come as a user message too, and earlier reasoning stays where it was sampled.
        fields: dict[str, Any] = {"thinking_retention": "all", **self.from_files(files)}
        if self.thinking == "switch":
            given = config.enable_thinking
            fields[self.switch] = self.thinks(files) if given is None else given
        elif config.enable_thinking is not None and config.enable_thinking != (self.thinking == "always"):
            has = "always thinks" if self.thinking == "always" else "does not think"
            raise UserError(f"the model family {self.name} {has}: leave renderer.enable_thinking out")
        if config.reasoning_effort is not None:
            if config.reasoning_effort not in self.efforts:
                known = f"one of {', '.join(self.efforts)}" if self.efforts else "no levels of it"
                asked = f"renderer.reasoning_effort is {config.reasoning_effort!r}"
                raise UserError(f"{asked}, but the model family {self.name} has {known}")
            fields["reasoning_effort"] = config.reasoning_effort
        if ":" in self.library:
            return configs.CustomRendererConfig(import_path=self.library, **fields)
        return getattr(configs, self.library)(**fields)
