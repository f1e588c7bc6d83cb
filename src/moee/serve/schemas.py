"""The shapes of requests and answers, as `/openapi.json` shows them.

OpenAI refuses fields that it does not know, and so do its routes here and ours: a misspelt option is an error. TEI
ignores them, and so do its routes. Values are strict: the string "5" is no number.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from moee.errors import InputError, shown
from moee.method.fusion import LARGEST_ALPHA, VIEWS, check_together
from moee.serve.fields import TEXTS_SCHEMA, DocumentList, InputList, Text, TextList, Weights, check_texts, whole
from moee.types import Fusion, SearchFusion, View

_MAX_K = 1000

Alpha = Annotated[
    float | None,
    Field(ge=0, le=LARGEST_ALPHA, description="Weight of the routing weights in `sum`; null as configured."),
]
Fused = Annotated[Fusion | None, Field(description="Which view, or how the two are combined; null as configured.")]
Named = Annotated[str | None, Field(description="One of the prompts that the server serves; null as configured.")]
Cut = Annotated[
    bool | None,
    Field(description="Cut texts over the model's limit; else they are refused. Null as the server was started."),
]
Shortened = Annotated[
    Annotated[int, Field(ge=1), BeforeValidator(whole)] | None,
    Field(
        description="Shorten vectors to so many dimensions. Only with an index that was built with `--dims`, by its "
        "reduction; refused otherwise.",
    ),
]
Vector = Annotated[
    list[float] | str, Field(description="Numbers, or the base64 of little-endian float32, as was asked for.")
]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, populate_by_name=False)


class _Strict(_Model):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, values: Any) -> Any:  # whatever was sent
        if isinstance(values, dict):
            names = [each.alias or name for name, each in cls.model_fields.items()]
            for name in values:
                if name not in names:
                    close = difflib.get_close_matches(name, names, n=1)
                    says = f"Unknown field {shown(name)}. There are: {', '.join(names)}."
                    says += f" Did you mean {close[0]!r}?" if close else ""
                    raise PydanticCustomError("unknown_field", "{says}", {"says": says})
        return values


class _Weighed(_Model):
    weights: Weights = None

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        try:
            check_together(getattr(self, "fusion", None), getattr(self, "alpha", None), self.weights)
        except InputError as error:
            raise PydanticCustomError("weights", "{says}", {"says": str(error)}) from error
        return self


class EmbeddingsRequest(_Strict, _Weighed):
    """OpenAI's request, with extension fields: `fusion`, `weights`, `alpha`, `prompt_name`, `return` and `truncate`."""

    input: InputList
    model: str = Field(description="Name of the served model; `/v1/models` tells it.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Shortened = None
    user: str | None = Field(None, description="Accepted, and not used.")
    fusion: Fused = None
    alpha: Alpha = None
    prompt_name: Named = None
    truncate: Cut = None
    views: list[View] = Field(
        default_factory=list,
        alias="return",
        max_length=len(VIEWS),
        description="Views that each item holds beside its vector, calibrated: hidden states (`hs`), routing weights "
        "(`rw`), the mean of tokens (`tokens`), words (`lexical`).",
    )


class EmbeddingItem(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: Vector
    hs: Vector | None = Field(None, description="Hidden states, if `return` names them.")
    rw: Vector | None = Field(None, description="Routing weights, if `return` names them.")
    tokens: Vector | None = Field(None, description="Mean of tokens, if `return` names it.")
    lexical: Vector | None = Field(None, description="Words, if `return` names them.")


class Usage(BaseModel):
    """Tokens that the model read, prompts counted; a text that was cut counts as the limit."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class RankingRequest(_Strict, _Weighed):
    """The request of Cohere, Jina and vLLM, with extension fields: `fusion`, `weights`, `alpha` and `truncate`."""

    model: str = Field(description="Name of the served model; `/v1/models` tells it.")
    query: Text
    documents: DocumentList
    top_n: Annotated[int, Field(ge=1), BeforeValidator(whole)] | None = Field(
        None, description="How many results; null for all."
    )
    return_documents: bool = Field(False, description="Results hold the documents themselves.")
    user: str | None = Field(None, description="Accepted, and not used.")
    fusion: Fused = None
    alpha: Alpha = None
    truncate: Cut = None


class RankedText(BaseModel):
    """A document."""

    text: str


class Ranked(BaseModel):
    """A document's place in the request, and its cosine to the query, -1 to 1."""

    index: int
    relevance_score: float
    document: RankedText | None = Field(None, description="Only if `return_documents` is true.")


class RankingAnswer(BaseModel):
    """The documents that are most like the query, best first."""

    model: str
    results: list[Ranked]
    usage: Usage


class ModelCard(BaseModel):
    """A model, as OpenAI describes one."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The served model."""

    object: Literal["list"]
    data: list[ModelCard]


class OpenAIErrorBody(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """OpenAI's error."""

    error: OpenAIErrorBody


class TEIError(BaseModel):
    """TEI's error."""

    error: str
    error_type: str


class _TEIRequest(_Weighed):
    model_config = ConfigDict(extra="ignore")

    truncate: Cut = None
    truncation_direction: Literal["right", "Right"] = Field(
        "right", description="Texts lose their end; the prompt's own end is always kept. The other side is not served."
    )
    fusion: Fused = None
    alpha: Alpha = None


class EmbedRequest(_TEIRequest):
    """TEI's request, with extension fields: `fusion`, `weights` and `alpha`."""

    inputs: InputList
    normalize: bool = True
    prompt_name: Named = None
    dimensions: Shortened = None


class SimilarityInputs(_Model):
    """A text and those it is compared with."""

    model_config = ConfigDict(extra="ignore")

    source_sentence: Text
    sentences: TextList


class SimilarityParameters(_TEIRequest):
    """How texts are compared."""

    prompt_name: Named = None


class SimilarityRequest(_Model):
    """TEI's request; extension fields lie in `parameters`."""

    model_config = ConfigDict(extra="ignore")

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None


class RerankRequest(_TEIRequest):
    """TEI's request, with extension fields: `fusion`, `weights` and `alpha`."""

    query: Text
    texts: TextList
    raw_scores: bool = Field(False, description="Scores are cosines, -1 to 1; else they are scaled to 0 to 1.")
    return_text: bool = False


class Rank(BaseModel):
    """A text's place and score."""

    index: int
    score: float
    text: str | None = None


class SearchRequest(_Strict, _Weighed):
    """What is looked for in the index."""

    query: Text
    k: Annotated[int, Field(ge=1, le=_MAX_K), BeforeValidator(whole)] = 10
    fusion: SearchFusion | None = Field(None, description="Null as the index is configured.")
    alpha: Alpha = None
    hybrid: bool | None = Field(
        None, description="False leaves full text out, true insists on it; null as the index is configured."
    )
    filter: str | None = Field(None, description="A condition on the fields, for example `year >= 2020`.")
    per_document: bool = Field(
        False, description="Return the best passage of each document alone. Only with an index of passages."
    )


class Found(BaseModel):
    """A text of the index, with the cosine of every view of it by name."""

    id: str
    text: str
    fields: dict[str, str | int | float | bool | None]
    score: float
    cosines: dict[View, float]
    hidden: float | None = Field(None, description="That of `hs`, by its name up to version 0.1.")
    routing: float | None = Field(None, description="That of `rw`, by its name up to version 0.1.")


class SearchAnswer(BaseModel):
    """The best texts of the index, best first."""

    query: str
    fusion: str
    alpha: float
    weights: dict[View, float]
    k: int
    results: list[Found]
    took_ms: float


class ExplainRequest(_Strict, _Weighed):
    """Two texts whose similarity is to be explained."""

    texts: Annotated[
        list[str], PlainValidator(check_texts), WithJsonSchema({**TEXTS_SCHEMA, "minItems": 2, "maxItems": 2})
    ]
    fusion: Fused = None
    alpha: Alpha = None
    as_query: bool = Field(
        False,
        description="The first text is a query and the second a document, each embedded with its own prompt as "
        "`/search` does; else both are documents.",
    )

    @model_validator(mode="after")
    def _check_pair(self) -> ExplainRequest:
        if len(self.texts) != 2:
            says = f"texts has {len(self.texts)} texts; a similarity has two."
            raise PydanticCustomError("text", "{says}", {"says": says})
        return self


class LayerParts(BaseModel):
    """What one layer's experts add to a similarity."""

    layer: int
    part: float
    parts: list[float]
    weights: list[list[float]]


class ExpertPart(BaseModel):
    """What one expert adds to a similarity."""

    layer: int
    expert: int
    part: float
    weights: list[float]


class TextExpert(BaseModel):
    """An expert that marks one text; `mean` is its weight over the calibration texts."""

    layer: int
    expert: int
    weight: float
    mean: float | None


class ViewPart(BaseModel):
    """What one view adds to a similarity: `part` is `share` times `cosine`."""

    weight: float | None = Field(description="What was asked for; null if the fusion weighs by lengths.")
    share: float = Field(description="What the cosine counts in this pair: the weight, divided by the sum of those.")
    cosine: float
    part: float


class SharedWord(BaseModel):
    """A word of both texts, how each writes it, and what it adds to their similarity."""

    word: str
    forms: list[str]
    part: float


class ExplanationAnswer(BaseModel):
    """The similarity of two texts, and the parts that add up to it, by view, layer, expert and word."""

    texts: list[str]
    model: str
    fusion: str
    alpha: float | None
    similarity: float
    views: dict[View, ViewPart]
    words: list[SharedWord]
    collisions: float = Field(description="Rest of the part of `lexical`: other words that share a coordinate.")
    hidden: float
    routing: float
    hidden_cosine: float | None
    routing_cosine: float | None
    layers: list[LayerParts]
    top_experts: list[ExpertPart]
    top_experts_of: list[list[TextExpert]]


class MapTopic(BaseModel):
    """A topic of the map: where its label stands, and how many texts it has."""

    topic: int
    label: str
    x: float
    y: float
    count: int


class MapAnswer(BaseModel):
    """The texts of the index as points."""

    ids: list[str]
    x: list[float]
    y: list[float]
    topic: list[int]
    texts: list[str]
    topics: list[MapTopic]
    stale: str | None = Field(description="How the index has changed since the map was made; null if it has not.")


class IndexInfo(BaseModel):
    """The index that is searched."""

    name: str
    count: int
    fields: dict[str, str]
    alpha: float
    fusion: str
    weights: dict[View, float]
    dims: dict[View, int]
    has_map: bool
    store: str


class InfoAnswer(BaseModel):
    """The model, the vectors and the limits of this server."""

    model_id: str
    served_model_name: str
    model_type: str
    device: str
    dtype: str
    dim: int
    dims: dict[View, int]
    hidden_size: int
    num_moe_layers: int
    num_experts: list[int]
    max_input_tokens: int | None
    prompt: str
    prompts: list[str]
    fusion: str
    alpha: float
    weights: dict[View, float] | None
    calibration: str
    max_concurrent_requests: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool
    payload_limit: int
    version: str
    index: IndexInfo | None
