"""What schemathesis is told of this API that no OpenAPI document can say.

Owns what a cursor is, which ids there are, who makes which call, and which of its verdicts are
wrong here, each with the reason. Loaded by its command line in a process of its own
(`SCHEMATHESIS_HOOKS`), started by `test_openapi_fuzz`; knows no server.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from schemathesis.wfc.escalation import escalating_provider

#: Ids that exist, by what they are of, and users by role: written by who starts this process.
IDS: dict[str, list[str]] = json.loads(os.environ.get("LIVECART_FUZZ_IDS", "{}"))
USERS: dict[str, str] = json.loads(os.environ.get("LIVECART_FUZZ_USERS", "{}"))
_ODDS = 4  # one id in so many stays made up
_NOUN = re.compile(r"/(\w+)s/{id}")

#: Schema-valid calls that are refused all the same, and why no schema can say so. A new one of
#: these is looked at before it is added: it may be a limit that the document forgot.
REFUSED_FOR = {
    "key_reused": "a key that was made up may have been used for another body",
    "all its lines together": "the sum of several lines",
    "after `opens_at`": "one time against the other",
    "of a draw": "a limit that depends on `mode`",
    "over one bucket": "a limit that depends on `mode`",
    "more than 1,000,000 units": "a sum with what there is",
    "More than is left of the order": "an amount against what was paid",
    "with the whole amount only": "one field against the other",
    "is of another product": "the offer of a pin against its product",
    "either `delivery` or `since`": "one field or the other",
    "Not a delivery of this list": "a cursor is of its own list",
    "Expected one of: manual": "which providers are connected is a setting",
    "Expected an https URL": "whether http will do is a setting",
    "Expected a public address": "which networks will do is a setting",
    "Expected a host, and neither": "a part of the URL",
    "that has this keyword": "what a comment can say is a grammar",
    "with the platform and a colon": "the bytes of two fields together",
    "own chat is heard by itself": "one platform is this server's own",
    "It cannot be read": "a part of the URL",
    "The notice cannot be read": "a form of a media server's",
    "Fewer, or it would be too long": "the bytes of several fields together",
}
TRIES = 5  # of a call that is answered `retry`


def _cursor(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


# What the last item is sorted by: an id, or where a list is in the order of a queue a number.
# Digits can be both.
schemathesis.openapi.format("cursor", st.integers(1, 10**17).map(_cursor))


@schemathesis.hook
def map_case(
    context: schemathesis.HookContext, case: schemathesis.Case[Any]
) -> schemathesis.Case[Any]:
    """Let most calls be about something that exists, by somebody who may, else all were 403 or 404.

    In sequences ids come from earlier answers already.
    """
    _assign(case)
    meta = case.meta
    if meta is None:
        return case
    mark = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    in_sequence = meta.phase.name == TestPhase.STATEFUL
    if not in_sequence and not meta.is_negative_at(ParameterLocation.PATH) and mark % _ODDS:
        for name in case.path_parameters or {}:
            found = _NOUN.search(case.operation.path) if name == "id" else None
            if ids := IDS.get(found[1] if found else name):
                case.path_parameters[name] = ids[mark // _ODDS % len(ids)]
    if isinstance(case.body, dict) and not meta.is_negative_at(ParameterLocation.BODY):
        real = _real(case.body, -1 if in_sequence else mark)
        if repr(real) != repr(case.body):  # what is set is judged anew, and equal to 5.0 is 5
            case.body = real
    return case


def _real(value: Any, mark: int) -> Any:
    """Return a good body with ids that exist, and with whole numbers written as such.

    JSON Schema counts 5.0 among the integers; protocol v1 does not, and no schema can say so.
    """
    if isinstance(value, dict):
        return {key: _known(key, item, mark) for key, item in value.items()}
    if isinstance(value, list):
        return [_real(item, mark) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _known(key: str, item: Any, mark: int) -> Any:
    """Return a field with ids that exist, where it is one of ids."""
    if mark > 0 and mark % _ODDS:
        if isinstance(item, str) and key in IDS:
            return IDS[key][mark // _ODDS % len(IDS[key])]
        if isinstance(item, list) and (ids := IDS.get(key.removesuffix("s"))):
            return [ids[(mark // _ODDS + n) % len(ids)] for n in range(len(item))]
    return _real(item, mark)


_assigned: set[str] = set()


def _assign(case: schemathesis.Case[Any]) -> None:
    """Begin each operation with a user of a role that it takes: of several, one by its name."""
    label = case.operation.label
    provider = escalating_provider(case.operation.schema)
    if provider is None or label in _assigned:
        return
    _assigned.add(label)
    demands = case.operation.definition.raw["security"]
    roles = [role for demand in demands for role in demand.get("token", ())] or list(USERS)
    provider.restore({label: USERS[roles[zlib.crc32(label.encode()) % len(roles)]]})


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Drop what is no failure here."""
    if "positive_data_acceptance" in failure.checks:
        return not any(words in response.text for words in REFUSED_FOR)
    if "ensure_resource_availability" in failure.checks:
        return "errors" not in response.json()  # what is not there is what the body names
    if "not_a_server_error" in failure.checks and response.status_code == 503:
        # Within a second nothing was known, on a slow machine; a client sends the same again.
        return all(case.call().status_code == 503 for _ in range(TRIES))
    return True
