"""The API's description, held against what the API does."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

METHODS = ("get", "post", "put", "delete")


@pytest.fixture
def spec(app: Any) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/api/openapi.json").json
    return document


def operations(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": item[method]
        for path, item in spec["paths"].items()
        for method in METHODS
        if method in item
    }


def test_the_description_is_openapi_3_1_and_names_the_ways_to_log_in(spec: dict[str, Any]):
    assert spec["openapi"].startswith("3.1")
    assert set(spec["components"]["securitySchemes"]) == {"bearer", "session"}


def test_every_route_has_examples_of_what_it_takes_and_gives(spec: dict[str, Any]):
    without = []
    for name, operation in operations(spec).items():
        bodies = [operation.get("requestBody")] if "requestBody" in operation else []
        bodies += [r for status, r in operation["responses"].items() if status.startswith("2") and "content" in r]
        contents = [content for body in bodies for content in body["content"].values()]
        parameters = [p for p in operation.get("parameters", []) if "example" not in p]
        if parameters or not all("example" in content for content in contents):
            without.append(name)

    assert without == []


def test_every_route_says_in_a_sentence_what_it_does(spec: dict[str, Any]):
    sentences = {name: operation.get("summary", "") for name, operation in operations(spec).items()}

    assert [name for name, said in sentences.items() if not (said[:1].isupper() and said.endswith("."))] == []


def test_every_route_declares_its_errors_in_our_shape(spec: dict[str, Any]):
    everywhere = {"400", "401", "403", "404", "405", "409", "412", "413", "415", "422", "429", "503"}
    open_to_all = {"GET /health", "GET /health/ready", "GET /metrics"}
    for name, operation in operations(spec).items():
        errors = {status: r for status, r in operation["responses"].items() if status >= "400"}
        assert name in open_to_all or set(errors) == everywhere, name
        for status, response in errors.items():
            schema = response["content"]["application/json"]["schema"]["$ref"]
            expected = "Readiness" if (name, status) == ("GET /health/ready", "503") else "ErrorBody"
            assert schema.endswith(expected), (name, status)


def test_every_parameter_and_field_that_is_taken_is_described(spec: dict[str, Any]):
    parameters = [(n, p) for n, o in operations(spec).items() for p in o.get("parameters", [])]

    assert [(n, p["name"]) for n, p in parameters if not p.get("description")] == []


def test_every_route_that_needs_a_login_says_so(spec: dict[str, Any]):
    open_to_all = {name for name, operation in operations(spec).items() if not operation.get("security")}

    assert open_to_all == {"GET /health", "GET /health/ready", "GET /metrics", "POST /api/auth/login"}


def test_operation_ids_are_unique(spec: dict[str, Any]):
    ids = [operation["operationId"] for operation in operations(spec).values()]

    assert len(ids) == len(set(ids))


def test_the_examples_fit_their_schemas(spec: dict[str, Any]):
    for name, operation in operations(spec).items():
        for response in operation["responses"].values():
            content = response.get("content", {}).get("application/json", {})
            if "example" in content:
                schema = {**content["schema"], "components": spec["components"]}
                assert Draft202012Validator(schema).is_valid(content["example"]), name


def test_the_docs_are_browsable_and_load_nothing_from_elsewhere(app: Any):
    page = app.test_client().get("/api/docs", follow_redirects=True)

    assert page.status_code == 200
    assert "https://" not in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
