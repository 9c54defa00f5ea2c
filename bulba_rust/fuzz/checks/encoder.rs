//! What must hold of every text: ids, pieces and normal form are those of the `tokenizers` crate, and ids go back to text.
//! Shared by the fuzz target and the tests of bulba-core.

use bulba_core::encoder::Encoder;
use bulba_core::pretokenize::{LLAMA3_REGEX, Pretokenizer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    SplitDelimiterBehavior, Tokenizer,
};

const TEXT: &str = "Мой родны кут, як ты мне мілы! Забыць цябе не маю сілы. Не раз, утомлены дарогай, жыццём вясны мае убогай, к \
    табе я ў думках залятаю і там душою спачываю. О, як бы я хацеў спачатку дарогу жыцця па парадку прайсці яшчэ раз, \
    азірнуцца, сабраць з дарог каменні тыя, што губяць сілы маладыя.
    Как ныне сбирается вещий Олег отмстить неразумным хозарам, их сёлы и нивы за буйный набег обрёк он мечам и пожарам. \
    Мой дядя самых честных правил, когда не в шутку занемог, он уважать себя заставил и лучше выдумать не мог.
    Реве та стогне Дніпр широкий, сердитий вітер завива, додолу верби гне високі, горами хвилю підійма. І блідий місяць \
    на ту пору із хмари де-де виглядав, неначе човен в синім морі то виринав, то потопав. Ґава їла ягоди, п’ять їжаків.
    It's the first of 1234 days; we'll see what they're doing, said the fox to the lazy dog. Don't you think so? I've.
    fn main() {\n        println!(\"{}\", 1 + 2);\n    }\n\n\n    - **1998** — 2024, 50 %, № 5, «так», “no”… 👩‍🚀🥔";

/// The pipeline of Llama 3 with a model of merges learnt from a few sentences.
pub fn definition() -> Value {
    let mut tokenizer: Tokenizer = pipeline(json!({"type": "BPE", "vocab": {}, "merges": []}))
        .to_string()
        .parse()
        .expect("a tokenizer without tokens");
    let trainer = BpeTrainer::builder()
        .vocab_size(700)
        .min_frequency(1)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    tokenizer
        .train(&mut TrainerWrapper::from(trainer), TEXT.split_inclusive(". "))
        .expect("merges of the text");
    let trained = tokenizer.to_string(false).expect("the tokenizer as text");
    let mut model = serde_json::from_str::<Value>(&trained).expect("JSON")["model"].take();
    model["ignore_merges"] = json!(true);
    pipeline(model)
}

pub fn pipeline(model: Value) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": [{
            "id": 700, "content": "<|end_of_text|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_REGEX}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": model
    })
}

pub struct Check {
    pub encoder: Encoder,
    reference: Tokenizer,
    pretokenizer: Pretokenizer,
    split: Split,
    normalizes: bool,
}

impl Check {
    /// `file` is written and read again.
    pub fn new(definition: &Value, file: &Path) -> Self {
        std::fs::write(file, definition.to_string()).expect("a file for the tokenizer");
        let mut reference: Tokenizer = definition.to_string().parse().expect("a tokenizer");
        reference.set_encode_special_tokens(true);
        let regex = SplitPattern::Regex(LLAMA3_REGEX.into());
        Check {
            encoder: Encoder::open(file).expect("an encoder"),
            reference,
            pretokenizer: Pretokenizer::new().expect("a pre-tokenizer"),
            split: Split::new(regex, SplitDelimiterBehavior::Isolated, false).expect("a regex"),
            normalizes: !definition["normalizer"].is_null(),
        }
    }

    /// With the learnt model, in a file of this process.
    pub fn learnt(name: &str) -> Self {
        let file: PathBuf = std::env::temp_dir().join(format!("bulba-{name}-{}.json", std::process::id()));
        let check = Check::new(&definition(), &file);
        let _ = std::fs::remove_file(&file);
        check
    }

    pub fn reference_ids(&self, text: &str) -> Vec<u32> {
        let encoding = self.reference.encode_fast(text, false).expect("ids of the crate");
        encoding.get_ids().to_vec()
    }

    pub fn text(&self, text: &str) {
        let ids = self.encoder.encode(text).expect("ids");
        assert_eq!(ids, self.reference_ids(text), "ids of {text:?}");

        let mut normal = NormalizedString::from(text);
        if self.normalizes {
            NFC.normalize(&mut normal).expect("the text in NFC");
        }
        let decoded = self.encoder.decode(&ids).expect("the text of the ids");
        assert_eq!(
            String::from_utf8_lossy(&decoded),
            normal.get(),
            "text of the ids of {text:?}"
        );

        let mut split = PreTokenizedString::from(text);
        self.split.pre_tokenize(&mut split).expect("pieces of the regex");
        let expected = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let expected: Vec<&str> = expected.into_iter().map(|(piece, _, _)| piece).collect();
        let pieces: Vec<&str> = self.pretokenizer.pieces(text).collect();
        assert_eq!(pieces, expected, "pieces of {text:?}");
    }
}
