"""OpenAI's API, as OpenAI's own client and LangChain's see it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from moee import MoEE
from moee.types import View
from tests.serve.conftest import Running, Serve, serving

TEXTS = ["A cat sat down.", "Rates rose again, by a quarter of a point.", "naïve café", "A cat sat down."]


@pytest.fixture(scope="module")
def server(tiny: MoEE) -> Iterator[Running]:
    with serving(tiny, served_model_name="tiny", prompts=("ke",)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is asked for", max_retries=0) as found:
        yield found


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_the_official_client_gets_the_vectors_of_encode(
    client: openai.OpenAI, tiny: MoEE, options: dict[str, Any]
) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS, **options)
    found = [
        np.frombuffer(base64.b64decode(item.embedding), "<f4") if isinstance(item.embedding, str) else item.embedding
        for item in answer.data
    ]
    np.testing.assert_allclose(np.float32(found), tiny.encode(TEXTS), rtol=0, atol=1e-6)
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    assert (answer.model, answer.object) == ("tiny", "list")
    # every token that the model read, those of the prompt too
    lengths = [
        len(ids) for ids in tiny.backend.tokenize([f'This sentence : "{text}" means in one word:"' for text in TEXTS])
    ]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(lengths)


def test_a_single_string_gives_a_single_vector(client: openai.OpenAI, tiny: MoEE) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS[0])
    assert len(answer.data) == 1
    np.testing.assert_allclose(answer.data[0].embedding, tiny.encode(TEXTS[0]), rtol=0, atol=1e-6)


def test_base64_holds_the_bytes_of_little_endian_float32(server: Running, tiny: MoEE) -> None:
    answer = server.post("/v1/embeddings", model="tiny", input=TEXTS, encoding_format="base64").json()
    sent = [base64.b64decode(item["embedding"], validate=True) for item in answer["data"]]
    assert sent == [vector.astype("<f4").tobytes() for vector in tiny.encode(TEXTS)]


def test_numbers_are_the_default_without_a_client(server: Running, tiny: MoEE) -> None:
    answer = server.post("/v1/embeddings", model="tiny", input=TEXTS).json()
    # every float32 comes through JSON as it is
    assert np.array_equal(np.float32([item["embedding"] for item in answer["data"]]), tiny.encode(TEXTS))


@pytest.mark.parametrize("several", [False, True])
def test_token_ids_are_those_of_the_models_own_tokenizer(client: openai.OpenAI, tiny: MoEE, several: bool) -> None:
    ids = tiny.backend.tokenize(TEXTS)
    answer = client.embeddings.create(model="tiny", input=ids if several else ids[0])
    expected = tiny.encode(TEXTS if several else TEXTS[:1])
    np.testing.assert_allclose([item.embedding for item in answer.data], expected, rtol=0, atol=1e-6)


def test_a_whole_number_may_be_written_with_a_point(server: Running) -> None:
    """To JSON it is the same number."""
    written = [server.post("/embed", inputs=[[300, 301]]), server.post("/embed", inputs=[[300.0, 301.0]])]
    assert written[0].json() == written[1].json()


def test_langchain_gets_the_vectors_of_encode(server: Running, tiny: MoEE) -> None:
    embeddings = OpenAIEmbeddings(
        model="tiny", base_url=f"{server.url}/v1", api_key="none", check_embedding_ctx_length=False, max_retries=0
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), tiny.encode(TEXTS), rtol=0, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), tiny.encode(TEXTS[0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fusion", ["hs", "rw", "concat", "sum"])
def test_a_request_can_choose_fusion_alpha_and_prompt(client: openai.OpenAI, tiny: MoEE, fusion: Any) -> None:
    extra = {"fusion": fusion, "alpha": 0.25, "prompt_name": "ke"}
    answer = client.embeddings.create(model="tiny", input=TEXTS, extra_body=extra)
    expected = tiny.encode(TEXTS, fusion=fusion, alpha=0.25, prompt="ke")
    np.testing.assert_allclose([item.embedding for item in answer.data], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "weights", [{"hs": 1, "rw": 0.2, "lexical": 0.5}, {"lexical": 1}, {"hs": 1, "tokens": 0.3}, {"rw": 2}]
)
def test_a_request_can_weigh_named_views(client: openai.OpenAI, tiny: MoEE, weights: dict[View, float]) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS, extra_body={"weights": weights})
    expected = tiny.encode(TEXTS, weights=weights)
    np.testing.assert_allclose([item.embedding for item in answer.data], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("fusion", [None, "hs"])
def test_return_adds_views(server: Running, tiny: MoEE, encoding: str, fusion: Any) -> None:
    views = ["hs", "rw", "lexical", "tokens"]
    body = {"model": "tiny", "input": TEXTS, "encoding_format": encoding, "return": views, "fusion": fusion}
    items = server.client.post("/v1/embeddings", json=body).json()["data"]
    for name in ("embedding", *views):
        chosen: Any = {"fusion": fusion} if name == "embedding" else {"weights": {name: 1}}
        found = [
            np.frombuffer(base64.b64decode(item[name]), "<f4") if encoding == "base64" else item[name] for item in items
        ]
        np.testing.assert_allclose(np.float32(found), tiny.encode(TEXTS, **chosen), rtol=0, atol=1e-6)


def test_views_of_a_filled_prompt_are_refused_where_they_need_the_texts_own_tokens(serve: Serve) -> None:
    filled = MoEE.from_pretrained("fake", fusion="sum", calibration="none", prompt_tokens="filled")
    with serve(filled, served_model_name="tiny") as server:
        for chosen, param in (({"weights": {"tokens": 1}}, "weights"), ({"return": ["tokens"]}, "return")):
            answer = server.post("/v1/embeddings", model="tiny", input="a", **chosen)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
            assert "The view 'tokens' needs prompt_tokens='apart'" in answer.json()["error"]["message"]


def test_only_the_views_that_were_asked_for_are_sent(server: Running) -> None:
    body = {"model": "tiny", "input": TEXTS, "return": ["rw"]}
    item = server.client.post("/v1/embeddings", json=body).json()["data"][0]
    assert set(item) == {"object", "index", "embedding", "rw"}


def test_user_is_accepted(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model="tiny", input="a", user="someone").data


def test_models_lists_the_served_one(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="'huge' is not served here; 'tiny' is"):
        client.models.retrieve("huge")


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "message"),
    [
        ({"model": "text-embedding-3-small"}, 404, "model_not_found", "model", "'tiny' is"),
        ({"dimensions": 8}, 400, "invalid_value", "dimensions", "no reduction was fitted"),
        ({"input": ""}, 400, "empty_input", "input", "is empty. Leave it out"),
        ({"input": ["a", " \n"]}, 400, "empty_input", "input", "Input 1 is only whitespace"),
        ({"input": []}, 400, "empty_input", "input", "at least one text"),
        ({"input": [[]]}, 400, "empty_input", "input", "Input 0 holds no token ids"),
        ({"input": 5}, 400, "invalid_value", "input", "The input is a number"),
        ({"input": ["a", 5]}, 400, "invalid_value", "input", "Input 1 is no string but a number"),
        ({"input": [1, "a"]}, 400, "invalid_value", "input", "no list of token ids"),
        ({"input": [True]}, 400, "invalid_value", "input", "Input 0 is no string but a boolean"),
        ({"input": "\ud800"}, 400, "invalid_value", "input", "half of a surrogate pair"),
        ({"input": [10**6]}, 422, "invalid_token", "input", "holds the token id 1000000"),
        ({"input": [[1], [-1]]}, 422, "invalid_token", "input", "Sequence 1 holds the token id -1"),
        ({"encoding_format": "hex"}, 400, "invalid_value", "encoding_format", "'float' or 'base64'"),
        ({"alpha": -1}, 400, "invalid_value", "alpha", "greater than or equal to 0"),
        ({"alpha": 1e300}, 400, "invalid_value", "alpha", "less than or equal to 1000000"),
        ({"alpha": "1"}, 400, "invalid_value", "alpha", "valid number"),
        ({"fusion": "max"}, 400, "invalid_value", "fusion", "'hs', 'rw', 'concat' or 'sum'"),
        ({"weights": {"hs": -1}}, 400, "invalid_value", "weights", "a number from 0 to 1,000,000"),
        ({"weights": {"hs": 1e-9}}, 400, "invalid_value", "weights", "if it counts at least 1e-06"),
        (
            {"input": ["a", "!!!"], "weights": {"lexical": 1}},
            400,
            "invalid_value",
            None,
            "Text 1 has no words of its own",
        ),
        ({"weights": {"hs": "1"}}, 400, "invalid_value", "weights", "The weight of the view 'hs' is '1'"),
        ({"weights": {"hs": 0, "rw": 0}}, 400, "invalid_value", "weights", "must count more than 0"),
        ({"weights": {}}, 400, "invalid_value", "weights", "must count more than 0"),
        ({"weights": {"lexica": 1}}, 400, "invalid_value", "weights", "Did you mean 'lexical'?"),
        ({"weights": [1, 2]}, 400, "invalid_value", "weights", "it must name what each view counts"),
        ({"weights": {"hs": 1}, "alpha": 1}, 400, "invalid_value", None, "alpha and weights are both given"),
        ({"weights": {"hs": 1}, "fusion": "sum"}, 400, "invalid_value", None, "fusion='sum' takes no weights"),
        ({"return": ["hs"] * 5}, 400, "invalid_value", "return", "at most 4"),
        ({"prompt_name": "style"}, 400, "invalid_value", "prompt_name", "Start the server with --prompts"),
        ({"fusoin": "hs"}, 400, "invalid_value", None, "Did you mean 'fusion'?"),
    ],
)
def test_what_is_wrong_is_said_in_openais_shape(
    server: Running, body: dict[str, Any], status: int, code: str, param: str | None, message: str
) -> None:
    answer = server.post("/v1/embeddings", **{"model": "tiny", "input": "a", **body})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert message in error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"input": NaN}', b"[1]", b"\xff", b'"text"'])
def test_a_body_that_is_no_request_is_refused(server: Running, content: bytes) -> None:
    answer = server.client.post("/v1/embeddings", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_the_official_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no reduction was fitted"):
        client.embeddings.create(model="tiny", input="a", dimensions=8)
    with pytest.raises(openai.UnprocessableEntityError, match="holds the token id 99999999"):
        client.embeddings.create(model="tiny", input=[99999999])
