"""The OpenAPI document: valid, whole, and the same as the table that is served."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi import definitions

from livecart.api import openapi
from livecart.api.operations import ROLES, Operation
from livecart.api.table import OPERATIONS, PLAIN, routes

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(openapi.document(OPERATIONS)))
#: Protocol v1, section 2, all but refund and ship, which come later; and what was added to it
#: since.
CALLS = """
POST /v1/streams · GET /v1/streams · GET /v1/streams/{id} · GET /v1/streams/{id}/offers
POST /v1/streams/{id}/start · POST /v1/streams/{id}/end · POST /v1/products · GET /v1/products
GET /v1/products/{id} · POST /v1/streams/{id}/pins · DELETE /v1/streams/{id}/pins/{pin}
POST /v1/streams/{id}/offers · PATCH /v1/offers/{id} · POST /v1/offers/{id}/open
POST /v1/offers/{id}/pause · POST /v1/offers/{id}/resume
POST /v1/offers/{id}/close · POST /v1/offers/{id}/restock · GET /v1/offers/{id}
POST /v1/offers/{id}/waitlist · DELETE /v1/offers/{id}/waitlist · GET /v1/offers/{id}/waitlist
GET /v1/offers/{id}/draw · GET /v1/offers/{id}/draw/entries
POST /v1/offers/{id}/orders · POST /v1/streams/{id}/bundles · GET /v1/orders · GET /v1/orders/{id}
PATCH /v1/streams/{id} · GET /v1/streams/{id}/audience
GET /v1/streams/{id}/events · POST /v1/streams/{id}/chat · POST /v1/streams/{id}/reactions
POST /v1/webhooks · GET /v1/webhooks · GET /v1/webhooks/{id} · PATCH /v1/webhooks/{id}
DELETE /v1/webhooks/{id} · POST /v1/webhooks/{id}/rotate · POST /v1/webhooks/{id}/test
GET /v1/webhooks/{id}/deliveries · GET /v1/webhooks/{id}/deliveries/{delivery}
POST /v1/webhooks/{id}/replay
GET /v1/streams/{id}/figures
GET /v1/streams/{id}/summary · GET /v1/streams/{id}/orders.csv · GET /v1/streams/{id}/orders.jsonl
GET /v1/orders.csv · GET /v1/orders.jsonl · POST /v1/orders/{id}/invoice
GET /v1/orders/{id}/invoice
POST /v1/orders/{id}/extend · POST /v1/orders/{id}/cancel · POST /v1/orders/{id}/pay
POST /v1/orders/{id}/refund · POST /v1/orders/{id}/ship · GET /v1/orders/{id}/timeline
POST /v1/orders/{id}/returns · GET /v1/orders/{id}/returns
POST /v1/returns/{id}/accept · POST /v1/returns/{id}/refuse
GET /v1/orders/{id}/payments
POST /v1/checkouts · GET /v1/payments/{id} · POST /v1/orders/{id}/link
GET /v1/orders/{id}/contact · PUT /v1/orders/{id}/contact · DELETE /v1/orders/{id}/contact
GET /v1/checkout · POST /v1/checkout/pay · POST /v1/hooks/{provider}
POST /v1/streams/{id}/comments · GET /v1/streams/{id}/comments
POST /v1/comments/{id}/order · POST /v1/comments/{id}/dismiss
POST /v1/streams/{id}/key · POST /v1/hooks/ingest/rtmp · POST /v1/hooks/ingest/srs
POST /v1/hooks/ingest/mediamtx · POST /v1/hooks/ingest/livekit
POST /v1/page-codes · POST /v1/page-tokens · POST /v1/page-tokens/renew
"""


def test_every_call_of_the_protocol_is_in_it_and_no_other() -> None:
    """The document has exactly the calls of the protocol that this release serves."""
    listed = set(re.split(r" · |\n", CALLS.strip()))
    found = {
        f"{method.upper()} {path}"
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    }
    assert found == listed
    assert {route.path for route in routes()} == {*DOCUMENT["paths"], *PLAIN}  # type: ignore[attr-defined]


def _nodes(value: Any) -> list[dict[str, Any]]:
    """Return every map inside."""
    if isinstance(value, dict):
        return [value, *(node for item in value.values() for node in _nodes(item))]
    if isinstance(value, list):
        return [node for item in value for node in _nodes(item)]
    return []


def test_every_reference_leads_somewhere() -> None:
    """Each $ref is a schema of the document, and each of these is a valid schema."""
    schemas = DOCUMENT["components"]["schemas"]
    for node in _nodes(DOCUMENT):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/components/schemas/") in schemas
        if "pattern" in node:
            assert r"\Z" not in node["pattern"]
            re.compile(node["pattern"])
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_document_has_the_form_of_openapi() -> None:
    """Operations have unique ids, responses and only parameters of their path."""
    ids = set()
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            ids.add(operation["operationId"])
            assert operation["responses"]
            named = [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)
            assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
    assert len(ids) == len(OPERATIONS)
    assert DOCUMENT["openapi"].startswith("3.1")


def test_the_document_is_one_by_the_official_schema() -> None:
    """It is valid by the JSON Schema that the OpenAPI Initiative publishes of 3.1."""
    judge = jsonschema.Draft202012Validator(definitions.OPENAPI_31)
    assert [f"{error.json_path}: {error.message}" for error in judge.iter_errors(DOCUMENT)] == []


def test_each_operation_names_its_roles() -> None:
    """A role that may call is an alternative of `security`; where anyone may, so is nothing."""
    for operation in OPERATIONS:
        demands = DOCUMENT["paths"][operation.path][operation.method.lower()]["security"]
        roles = [role for demand in demands for role in demand.get("token", [])]
        assert roles == list(ROLES[operation.who])
        open_ = operation.who == "anyone" and not operation.linked
        assert ({} in demands) == open_


@pytest.mark.parametrize(
    "name", ["NewStream", "NewProduct", "NewOffer", "NewOrder", "NewPin", "NewWebhook"]
)
def test_bodies_say_what_is_required(name: str) -> None:
    """A body schema requires what has no default and allows null for the rest."""
    schema = DOCUMENT["components"]["schemas"][name]
    for field, kind in schema["properties"].items():
        if field not in schema["required"]:
            options = kind.get("anyOf", [kind])
            assert {"type": "null"} in options or None in kind.get("enum", [])


BODIES = [o for o in OPERATIONS if isinstance(o.body, type) and issubclass(o.body, msgspec.Struct)]


@pytest.mark.parametrize("operation", BODIES, ids=lambda o: f"{o.method} {o.path}")
def test_null_is_as_absent_in_every_body(operation: Operation) -> None:
    """Whatever a body may leave out it may have as null (protocol, beginning)."""
    assert operation.body is not None
    for field in msgspec.structs.fields(operation.body):
        if not field.required:
            msgspec.convert(None, field.type)


def test_the_document_is_one_by_the_usual_validator() -> None:
    """openapi-spec-validator finds nothing, and finds what is wrong when something is."""
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []
    broken = msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    del broken["paths"]["/v1/streams/{id}"]["get"]["parameters"]
    wrong = [error.message for error in OpenAPIV31SpecValidator(broken).iter_errors()]
    assert len(wrong) == 1
    assert "'id'" in wrong[0]
