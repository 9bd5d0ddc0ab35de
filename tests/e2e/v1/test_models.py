"""GET /v1/models, and HEAD /, by which clients see whether anybody is there."""

import pytest

from tests.wire import refused


def test_models_are_listed_in_a_shape_that_both_sdks_read(native):
    service, _ = native

    body = service.client.get("/v1/models").json()

    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["alias", "once", "small", "vendor/big"]
    assert [model["owned_by"] for model in body["data"]] == ["ai-proxy", "ai-proxy", "x", "x"]
    assert (body["has_more"], body["first_id"], body["last_id"]) == (False, "alias", "vendor/big")
    model = body["data"][0]
    assert (model["object"], model["type"], model["display_name"]) == ("model", "model", "alias")
    assert isinstance(model["created"], int)
    assert model["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "page", "more"),
    [
        ({"limit": 2}, ["alias", "once"], True),
        ({"limit": 2, "after_id": "once"}, ["small", "vendor/big"], False),
        ({"limit": 1, "after_id": "once"}, ["small"], True),
        ({"after_id": "small"}, ["vendor/big"], False),
        ({"after_id": "vendor/big"}, [], False),
        ({"limit": 2, "before_id": "vendor/big"}, ["once", "small"], True),
        ({"limit": 2, "before_id": "small"}, ["alias", "once"], False),
        ({"before_id": "once"}, ["alias"], False),
        ({"limit": 1000}, ["alias", "once", "small", "vendor/big"], False),
    ],
)
def test_models_come_in_pages(native, query, page, more):
    service, _ = native

    body = service.client.get("/v1/models", params=query).json()

    assert [model["id"] for model in body["data"]] == page
    assert body["has_more"] is more
    assert (body["first_id"], body["last_id"]) == ((page[0], page[-1]) if page else (None, None))


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_page_has_a_sensible_size(native, limit):
    service, _ = native

    assert refused(service.client.get("/v1/models", params={"limit": limit}))[1:] == (
        "invalid_request",
        "client",
        "limit",
    )


@pytest.mark.parametrize("written", ["vendor/big", "vendor%2Fbig"])
def test_one_model_may_have_a_slash_in_its_name(native, written):
    service, _ = native

    response = service.client.get(f"/v1/models/{written}")

    assert (response.status_code, response.json()["id"], response.json()["owned_by"]) == (200, "vendor/big", "x")


def test_a_model_that_there_is_not_is_not_found(native):
    service, _ = native

    response = service.client.get("/v1/models/no/body")

    assert refused(response)[:2] == (404, "model_not_found")
    assert response.json()["error"]["message"].startswith("The model 'no/body' does not exist")


def test_models_are_told_to_nobody_without_a_key(native):
    service, _ = native

    with service.client_with("nobody's key") as stranger:
        answers = [stranger.get(path) for path in ("/v1/models", "/v1/models/small", "/v1/responses/x")]

    assert [refused(answer)[:2] for answer in answers] == [(401, "invalid_api_key")] * 3


def test_anybody_may_see_that_somebody_is_there(native):
    service, _ = native

    with service.client_with("nobody's key") as stranger:
        response = stranger.head("/")

    assert (response.status_code, response.content) == (200, b"")


def test_a_browser_is_shown_what_this_is(native):
    service, _ = native

    with service.client_with("nobody's key") as stranger:
        response = stranger.get("/", follow_redirects=False)

    assert (response.status_code, response.headers["location"]) == (307, "/docs")
