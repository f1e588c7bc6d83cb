from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moee import MoEE
from moee.errors import InputError
from moee.index.fit import BuildOptions, Sample, prepare, settle_calibration
from moee.method.texts import FewTextsWarning
from tests.index.conftest import WriteCorpus
from tests.index.test_writer import CountingBackend


def test_held_out_rows_are_none_of_the_sample(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moee.index.fit.SAMPLE_ROWS", 100)
    monkeypatch.setattr("moee.index.fit.HELD_OUT_ROWS", 90)
    sample = Sample(write_corpus(), fake, tmp_path / "parts", held_out=True)
    assert (len(sample.rows), len(sample.held_out)) == (100, 90)
    assert not set(sample.rows.tolist()) & set(sample.held_out.tolist())
    assert not len(Sample(write_corpus(), fake, tmp_path / "parts", held_out=False).held_out)


def test_a_report_of_a_larger_corpus_measures_the_reducer_of_the_index(
    fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moee.index.fit.SAMPLE_ROWS", 200)
    corpus = write_corpus()
    sample = Sample(corpus, fake, tmp_path / "parts", held_out=True)
    prepared = prepare(fake, corpus, BuildOptions(dims=16, report=True, calibrate="corpus"), sample)
    assert prepared.reducer.num_texts == 200
    assert (prepared.report.num_fitted, prepared.report.num_queries + prepared.report.num_documents) == (200, 200)
    assert prepared.embedder.calibration.num_texts == 200


def test_views_of_the_sample_are_kept_and_known_again(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_corpus(50)
    sample = Sample(corpus, fake, tmp_path / "parts", held_out=False)
    assert not sample.is_kept()
    views = sample.views(sample.rows)
    again = Sample(corpus, fake, tmp_path / "parts", held_out=False)
    assert again.is_kept()
    assert np.array_equal(again.views([3, 4]).hidden_states, views.hidden_states[[3, 4]])


def test_statistics_that_the_configuration_does_not_use_are_refused() -> None:
    model = MoEE.from_pretrained("fake", calibration="none")
    assert settle_calibration(model, BuildOptions()) == "none"
    with pytest.raises(InputError, match="has calibration='none', and statistics of 'corpus' were asked for"):
        settle_calibration(model, BuildOptions(calibrate="corpus"))


def test_a_model_read_from_disk_looks_at_the_sample_in_one_pass(
    write_corpus: WriteCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moee.index.fit.SAMPLE_ROWS", 200)
    backend = CountingBackend("disk")
    model = MoEE(backend, MoEE.from_pretrained("fake").config)
    corpus, options = write_corpus(), BuildOptions(dims=16, report=True, calibrate="corpus")
    prepare(model, corpus, options, Sample(corpus, model, tmp_path / "parts", held_out=True))
    assert backend.runs == 1


def test_the_corpus_own_statistics_count_each_text_once_and_its_words(
    of_four_views: MoEE, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus(150)
    twice = replace(corpus, records=[*corpus.records, *(replace(each, id=f"{each.id}-2") for each in corpus.records)])
    own, doubled = (
        prepare(
            of_four_views,
            each,
            BuildOptions(calibrate="corpus"),
            Sample(each, of_four_views, tmp_path / f"parts-{len(each.records)}", held_out=False),
        ).embedder.calibration
        for each in (corpus, twice)
    )
    assert own is not None
    assert doubled is not None
    assert own.digest() == doubled.digest()
    assert own.num_texts == 150
    assert own.frequencies is not None
    assert own.frequencies.num_documents == 150


def test_statistics_of_few_texts_are_warned_of(fake: MoEE, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_corpus(20)
    sample = Sample(corpus, fake, tmp_path / "parts", held_out=False)
    with pytest.warns(FewTextsWarning, match="Only 20 different texts"):
        prepare(fake, corpus, BuildOptions(calibrate="corpus"), sample)
