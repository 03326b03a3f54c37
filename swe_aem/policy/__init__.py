"""Policies: token ids in, sampled ids and log-probabilities out; or, behind a chat API, messages in and out.

`open_policy_factory` opens the policy of a run: a script by its name, a server by its URL, a model in this process, or
a chat API.
Importing this package does not import torch; `swe_aem.policy.sampling`, which samples a model in a batch, does.
"""

from swe_aem.policy.entropy import TOP as TOP_LOGPROBS
from swe_aem.policy.errors import AnswersLost, ContextOverflow, NoServer, RunRefused
from swe_aem.policy.fingerprint import tokenizer_fingerprint
from swe_aem.policy.kinds import names_chat_api
from swe_aem.policy.registry import (
    COMPLETIONS,
    POLICIES,
    SCRIPTS,
    PolicyFactory,
    ScriptContext,
    check_policy,
    is_own_policy,
    is_server,
    listed_scripts,
    open_policy_factory,
    policy_setting,
    takes_messages,
)
from swe_aem.policy.requests import RequestConfig
from swe_aem.policy.scripted import ScriptTools
from swe_aem.policy.tokenizer import BYTE_TOKENIZER_NAME, QWEN3_CONTROL_TOKENS, Tokenizer, load_tokenizer
from swe_aem.policy.transformers import TransformersPolicy
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy, VllmServer
from swe_aem.policy.vllm_control import ServedModel, ServerControl
from swe_aem.policy.vllm_server import PAUSE_LIMIT_S, InFlight

__all__ = [
    "BYTE_TOKENIZER_NAME",
    "COMPLETIONS",
    "PAUSE_LIMIT_S",
    "POLICIES",
    "QWEN3_CONTROL_TOKENS",
    "SCRIPTS",
    "TOP_LOGPROBS",
    "AnswersLost",
    "ContextOverflow",
    "InFlight",
    "NoServer",
    "PolicyFactory",
    "RequestConfig",
    "RunRefused",
    "ScriptContext",
    "ScriptTools",
    "ServedModel",
    "ServerControl",
    "Tokenizer",
    "TransformersPolicy",
    "VllmClientConfig",
    "VllmPolicy",
    "VllmServer",
    "check_policy",
    "is_own_policy",
    "is_server",
    "listed_scripts",
    "load_tokenizer",
    "names_chat_api",
    "open_policy_factory",
    "policy_setting",
    "takes_messages",
    "tokenizer_fingerprint",
]
