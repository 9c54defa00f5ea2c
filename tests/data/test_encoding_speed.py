"""The comparison of encoders measures what it says, with the peers that are installed."""

import importlib.util

from bulba.bench.encode import PEERS, measure_encoding
from bulba.data.prepare import PreparedData
from tests.hard_strings import HARD_STRINGS


def test_programs_are_compared_on_the_same_texts(prepared: PreparedData) -> None:
    compared = measure_encoding(HARD_STRINGS, prepared.tokenizer_path, rounds=2, threads=2)
    assert (compared.num_texts, compared.rounds, compared.num_threads) == (len(HARD_STRINGS), 2, 2)
    assert compared.text_bytes == sum(len(text.encode()) for text in HARD_STRINGS)
    speeds = {speed.name: speed for speed in compared.speeds}
    installed = {name for name in PEERS if importlib.util.find_spec(name)}
    assert set(speeds) == {"bulba", "bulba, counts"} | installed
    assert set(compared.absent) == set(PEERS) - installed
    assert all(speed.wall_mb_per_s > 0 and speed.cpu_mb_per_s > 0 for speed in compared.speeds)
    assert speeds["bulba, counts"].num_tokens == speeds["bulba"].num_tokens == speeds["tokenizers"].num_tokens
    assert speeds["bulba"].same_frac == speeds["tokenizers"].same_frac == 1.0
