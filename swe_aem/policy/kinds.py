"""What the name of a policy says of its kind, without importing anything."""

CHAT_KINDS = ("chat", "litellm")
"""What answers chat messages and reports no token ids: `chat:URL`, `litellm:MODEL`."""


def names_chat_api(name: str) -> bool:
    """Is it the name of a policy behind a chat API, or the `type` of one in settings?"""
    return name.partition(":")[0] in CHAT_KINDS
