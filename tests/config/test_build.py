"""Building objects from config nodes: only allowed names, keys and types held against the signature."""

import pytest

from bulba.config.build import build, check_keys, locate
from bulba.data.corpora import FolderData
from bulba.errors import ConfigError

NORM = "bulba.model.norm.RMSNorm"


def test_builds_what_the_target_names() -> None:
    norm = build({"_target_": NORM, "eps": 1e-5}, size=4)
    assert norm.weight is not None
    assert norm.weight.shape == (4,)


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.run", "bulbax.evil", "eval"])
def test_a_config_cannot_name_foreign_code(target: str) -> None:
    with pytest.raises(ConfigError, match=r"not allowed|must name a class"):
        build({"_target_": target, "command": "true"})


def test_a_target_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model\._target_=bulba\.model\.nrm\.RMSNorm cannot be imported"):
        locate("bulba.model.nrm.RMSNorm", "model")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"eps": 1e-5, "afine": True}, r"norm\.afine is not an option of RMSNorm; did you mean affine\?"),
        ({"eps": "small"}, r"norm\.eps='small' must be a number"),
        ({"eps": True}, r"norm\.eps=True must be a number"),
        ({"eps": "???"}, r"norm\.eps must be set"),
        ({}, r"norm\.eps is not set"),
        ({"eps": 1e-5, "size": 3}, r"norm\.size is not an option"),
    ],
)
def test_wrong_options_are_named_with_their_path(options: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build({"_target_": NORM, **options}, path="norm", size=4)


def test_options_of_a_base_class_count_and_unknown_ones_do_not() -> None:
    check_keys(FolderData, {"path": "x", "seq_len": 8}, "data", given=None)
    with pytest.raises(ConfigError, match=r"data\.seq_lem is not an option of FolderData; did you mean seq_len\?"):
        check_keys(FolderData, {"path": "x", "seq_lem": 8}, "data", given=None)
    with pytest.raises(ConfigError, match=r"data\.on_bad='drop' must be one of skip, fail"):
        check_keys(FolderData, {"on_bad": "drop"}, "data", given=None)
