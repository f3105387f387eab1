"""``python -m mx.config.docs`` prints the reference of all settings, made from the table and settings.toml.

A test compares its output with ``docs/reference/settings.md``.
"""

# ruff: noqa: E501  (the prose and tables of a document keep their own width)

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping

from mx.config.defaults import read_defaults
from mx.config.options import Option
from mx.config.tree import TABLE

_HEAD = """# Settings

<!-- Made by `python -m mx.config.docs > docs/reference/settings.md`. Change settings.toml or mx/config, not this file. -->

Every setting can be given in four places. The first one that has it wins:

1. **a flag** of the command;
2. **the environment**;
3. **a file**: `--config FILE`, else `MODEL_EXPRESS_CONFIG`, else the first that exists of `model-express.yaml`,
   `model-express.yml`, `/etc/model-express/config.yaml`, `/etc/model-express/config.yml`;
4. **the default**, in `settings.toml`.

`mx config show` prints every setting with its value and origin (`default`, `file:PATH`, `env:NAME`, `flag`),
`mx config validate` reports everything that is wrong, `mx config generate` writes a file with every key.
Anything wrong stops the start, also where a higher layer hides it: an unknown key, a wrong type, a value out of
range, a file that can't be read. Nothing wrong is ever replaced by a default.

## Files

YAML, or TOML where the file's name ends in `.toml`. A file may be partial. Keys are lower case, nested by section.
YAML is read by the rules of version 1.2: `off` and `yes` are words, and both are fine where true or false is meant.
A key that is written twice is an error. Sections that other servers of this family read from the same file
(`dht`, `metrics`, `p2p`, `refit`, `reshard`, `rl`, `tracing`, `trainer`) are passed over with a notice.

Workers (the vLLM plugin) read a file only if `MODEL_EXPRESS_CONFIG` names one: their working directory is the
engine's. The command line also reads `~/.model-express/config.yaml` (members `local_path`, `server_endpoint`,
`timeout_secs`, `shared_storage`, `transfer_chunk_size`; `mx model init` writes it), below the file above.

Relative paths start at the working directory, `~` is the home folder.

## Values

| kind | spelling |
|---|---|
| duration | `30s`, `45m`, `2h`, `7d`, `1h30m`, `500ms`, or a number of seconds; a day is 24 hours |
| size | `64MiB`, `500GiB`, `10GB` (decimal), `10Gi`, or a number of bytes; `10G` is refused as unclear |
| switch | `true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`, in any case |
| list | a list in a file; words with commas between them in the environment |
| no value | `null` or `none`, or empty |

## Environment

Every setting has the names in its table, and two made from its key: `MODEL_EXPRESS_SERVER__PORT` and
`MODEL_EXPRESS_SERVER_PORT` for `server.port`. The names in the table win over these, and the first of them over
the next. A variable that is empty counts as not set.

- `MODEL_EXPRESS_URL` and `MX_SERVER_ADDRESS` are names of equal standing for `worker.server_address`.
  `MODEL_EXPRESS_URL` wins. Neither is deprecated; only when both are set to different values does a notice (at
  INFO) say which one is ignored. The same holds for every setting with several names.
- Deprecated, with one line at INFO that names the successor: `HUGGING_FACE_HUB_TOKEN` (`HF_TOKEN`),
  `HUGGINGFACE_HUB_CACHE` (`HF_HUB_CACHE`).
- `MX_METADATA_BACKEND` chooses the store on a server and the way to find sources on a worker.
- Variables that Kubernetes makes for a Service (`REDIS_PORT=tcp://10.0.0.1:6379` for a Service called `redis`) are
  recognised and ignored with a notice.
- Known to ModelExpress and without effect in mx, reported once at INFO: `MX_VMM_ARENA`, `MX_ARENA_SINGLE_MR`,
  `MX_SOURCE_QUERY_TIMEOUT`, `MX_TRANSFER_LOG_DIR`, `MX_REDIS_URL`, `MODEL_NAME`, `MX_GENERATOR_SOURCE_ORDER`,
  `MX_WEIGHT_PAYLOAD_FORMAT`, `MX_SKIP_EXT`, `MX_TRAINER_*`, `MX_REFIT_*`, `MX_RESHARD_*`, `MX_S3_*`, `RUST_LOG`.
- A variable that begins with `MODEL_EXPRESS_` or `MX_` and is nearly a name of mx's is reported with the name that
  was probably meant. One with a double underscore that is no setting is an error.
- Read by the libraries themselves, passed through untouched: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
  `AWS_SESSION_TOKEN`, `AZURE_ACCOUNT_NAME`, `AZURE_ACCOUNT_KEY`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`,
  `AZURE_TENANT_ID`, `AZURE_STORAGE_ACCOUNT_NAME`, `UCX_RNDV_SCHEME`, `UCX_RNDV_THRESH`, `UCX_LOG_LEVEL`,
  `NIXL_LOG_LEVEL`, `VLLM_PLUGINS`, `VLLM_RPC_TIMEOUT`.

## Addresses

`connection.endpoint` without a scheme means `http://`, and a bare host also means port 8001. With a scheme and no
port it is that scheme's own port, which suits an ingress. `worker.server_address` may be written with `http://`.

## Secrets

`HF_TOKEN` and `NGC_API_KEY` are read from the environment only. They, and passwords in URLs, are masked in
`mx config show`, in errors and in logs.

## Logging

`logging.structured: true` means format json. The server logs to standard output, as long as `logging.file` names no
file; commands of the CLI log to standard error, from level warn unless a flag, the environment or a file says
otherwise; a worker keeps vLLM's level unless one is set.
"""

_TITLES: Mapping[str, str] = {
    "server": "Server",
    "database": "Database",
    "metadata": "Metadata store",
    "redis": "Redis",
    "kubernetes": "Kubernetes",
    "sources": "Sources",
    "cache": "Cache",
    "logging": "Logging",
    "security": "Security",
    "connection": "Connection (command line and SDK)",
    "worker": "Worker",
    "transfer": "Transfer",
    "providers": "Providers",
    "pod": "Pod",
}


def render() -> str:
    """The whole document."""
    return "\n".join((_HEAD, *_tables())) + "\n"


def _tables() -> Iterator[str]:
    opened = ""
    yield "## All settings"
    for option in TABLE:
        top = option.key.partition(".")[0]
        if top != opened:
            opened = top
            yield ""
            yield f"### {_TITLES[top]}"
            yield ""
            yield "| key | default | environment | flag | meaning |"
            yield "|---|---|---|---|---|"
        yield _line(option)


def _line(option: Option) -> str:
    default: object = read_defaults().values
    for name in option.key.split("."):
        assert isinstance(default, Mapping), option.key
        default = default[name]
    environment = [f"`{name}`" for name in (*option.env, *option.fallback_env, *option.legacy_env)]
    environment += [f"`{name}` (the opposite)" for name in option.inverse_env]
    meaning = read_defaults().comments[option.key]
    notes = f" Allowed: {option.kind.allowed}."
    if option.scopes == ("worker",):
        notes += " The variable is read by workers."
    elif option.scopes == ("server",):
        notes += " The variable is read by servers only."
    elif option.scopes == ("server", "client"):
        notes += " The variable is not read by workers."
    if option.env_only:
        notes += " Not read from files."
    cells = (
        f"`{option.key}`",
        f"`{json.dumps(default, ensure_ascii=False)}`" if default not in ("", "none") else "none",
        ", ".join(environment) or f"`{option.nested_env[0]}`",
        f"`{option.flag}`" if option.flag else "",
        f"{meaning}{notes}",
    )
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    sys.stdout.write(render())
