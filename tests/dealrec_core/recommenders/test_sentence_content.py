"""Content vectors by a sentence model, here a tiny one made on the spot."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from dealrec_core.errors import SettingsError
from dealrec_core.recommenders import bundle, semantic_ids, tiger
from dealrec_core.recommenders.sentence_content import SentenceContent
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings.recommenders import SemanticIdsConfig, TigerConfig

CATALOGUE = Catalogue(["a", "b", "c"], ["chess", "golf golf golf golf", "racing"], [["board"], [], ["cars"]])


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentences")
    words = {
        word: place for place, word in enumerate(["<pad>", "<unk>", "chess", "golf", "racing", "board", "cars", ";"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(shape).save_pretrained(folder)
    return folder


def test_vectors_are_the_mean_of_the_tokens_whatever_the_batch(sentence_model: Path) -> None:
    found = SentenceContent(str(sentence_model), batch_size=2).vectors(CATALOGUE)
    model = BertModel.from_pretrained(sentence_model).eval()
    for row, ids in enumerate(
        [[2, 7, 5], [3, 3, 3, 3], [4, 7, 6]]
    ):  # "chess; board", "golf golf golf golf", "racing; cars"
        with torch.no_grad():
            mean = model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().mean(0).numpy()
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)


def test_semantic_ids_can_be_made_of_them(sentence_model: Path) -> None:
    config = SemanticIdsConfig(levels=2, codes=4, embedding=str(sentence_model))
    found = semantic_ids.fit(CATALOGUE, config=config, seed=0)
    assert len(np.unique(found.codes, axis=0)) == 3
    grown = Catalogue([*CATALOGUE.item_ids, "d"], [*CATALOGUE.titles, "chess"], [*CATALOGUE.categories, ["board"]])
    assert found.extended(grown).codes[3].tolist() == [*found.codes[0, :-1], 1]


def test_a_model_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"embedding '.*' cannot be loaded"):
        SentenceContent(str(tmp_path / "nothing")).vectors(CATALOGUE)


def test_a_tiger_bundle_names_its_sentence_model_and_codes_new_items_alike(
    sentence_model: Path, tmp_path: Path
) -> None:
    config = SemanticIdsConfig(levels=2, codes=4, embedding=str(sentence_model))
    ids = semantic_ids.fit(CATALOGUE, config=config, seed=0)
    network = TigerConfig(width=16, layers=1, heads=2, head_width=8, inner_width=16)
    before = Tiger("tiger", tiger.network(network, ids).eval(), ids, ["b"], network)
    bundle.save(tmp_path / "bundle", before, lineage={})
    after = bundle.load(tmp_path / "bundle", device=torch.device("cpu"))
    assert isinstance(after, Tiger)
    assert after.recommend([["a"], []], 3) == before.recommend([["a"], []], 3)
    grown = Catalogue([*CATALOGUE.item_ids, "d"], [*CATALOGUE.titles, "golf"], [*CATALOGUE.categories, []])
    np.testing.assert_array_equal(after.ids.extended(grown).codes, ids.extended(grown).codes)
