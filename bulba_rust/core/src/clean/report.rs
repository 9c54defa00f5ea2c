//! What cleaning did, rule by rule, with samples to look at.

use super::edit::{Edit, slice};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Control,
    ZeroWidth,
    SoftHyphen,
    Nfc,
    Html,
    Homoglyphs,
    Apostrophes,
    RepeatedLines,
    Short,
}

impl Rule {
    /// In the order in which they are applied.
    pub const ALL: [Rule; 9] = [
        Rule::Control,
        Rule::ZeroWidth,
        Rule::SoftHyphen,
        Rule::Nfc,
        Rule::Html,
        Rule::Homoglyphs,
        Rule::Apostrophes,
        Rule::RepeatedLines,
        Rule::Short,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rule::Control => "control",
            Rule::ZeroWidth => "zero_width",
            Rule::SoftHyphen => "soft_hyphen",
            Rule::Nfc => "nfc",
            Rule::Html => "html",
            Rule::Homoglyphs => "homoglyphs",
            Rule::Apostrophes => "apostrophes",
            Rule::RepeatedLines => "repeated_lines",
            Rule::Short => "short",
        }
    }
}

/// The text around one change, before and after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// A hash of `before`: those with the smallest are kept, so that samples come from all over the input.
    priority: u64,
    pub before: String,
    pub after: String,
}

/// Sizes are those of the documents that the rule changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleReport {
    pub documents: u64,
    pub occurrences: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub chars_before: u64,
    pub chars_after: u64,
    samples: Vec<Sample>,
}

impl RuleReport {
    pub const MAX_SAMPLES: usize = 20;

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    fn wants(&self, priority: u64) -> bool {
        self.samples.len() < Self::MAX_SAMPLES
            || self.samples.last().is_none_or(|last| priority <= last.priority)
    }

    fn keep(&mut self, sample: Sample) {
        if let Err(place) = self.samples.binary_search(&sample) {
            self.samples.insert(place, sample);
            self.samples.truncate(Self::MAX_SAMPLES);
        }
    }

    fn merge(&mut self, other: RuleReport) {
        self.documents += other.documents;
        self.occurrences += other.occurrences;
        self.bytes_before += other.bytes_before;
        self.bytes_after += other.bytes_after;
        self.chars_before += other.chars_before;
        self.chars_after += other.chars_after;
        for sample in other.samples {
            self.keep(sample);
        }
    }
}

/// Counts of a whole run. Reports of parts of the input merge into the same report in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    pub documents: u64,
    pub documents_changed: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// U+FFFD, the trace of an earlier wrong decoding: counted, and left where it is.
    pub replacement_characters: u64,
    rules: [RuleReport; Rule::ALL.len()],
}

impl CleanReport {
    pub fn rule(&self, rule: Rule) -> &RuleReport {
        &self.rules[rule as usize]
    }

    pub fn merge(&mut self, other: CleanReport) {
        self.documents += other.documents;
        self.documents_changed += other.documents_changed;
        self.bytes_before += other.bytes_before;
        self.bytes_after += other.bytes_after;
        self.replacement_characters += other.replacement_characters;
        for (mine, theirs) in self.rules.iter_mut().zip(other.rules) {
            mine.merge(theirs);
        }
    }

    /// Counts edits that made `new` of `old`; `again` if this rule changed this document before.
    pub(super) fn record(&mut self, rule: Rule, old: &str, edits: &[Edit], new: &str, again: bool) {
        let report = &mut self.rules[rule as usize];
        let (chars_old, chars_new) = (count_chars(old), count_chars(new));
        if again {
            report.bytes_after = (report.bytes_after + new.len() as u64).saturating_sub(old.len() as u64);
            report.chars_after = (report.chars_after + chars_new).saturating_sub(chars_old);
        } else {
            report.documents += 1;
            report.bytes_before += old.len() as u64;
            report.bytes_after += new.len() as u64;
            report.chars_before += chars_old;
            report.chars_after += chars_new;
        }
        let mut grown = 0isize;
        for edit in edits {
            report.occurrences += edit.occurrences;
            let start = edit.start.saturating_add_signed(grown);
            grown += edit.with.len() as isize - (edit.end - edit.start) as isize;
            let before = excerpt(old, edit.start, edit.end);
            let priority = xxh3_64(before.as_bytes());
            if report.wants(priority) {
                report.keep(Sample {
                    priority,
                    before: before.to_owned(),
                    after: excerpt(new, start, start + edit.with.len()).to_owned(),
                });
            }
        }
    }

    pub(super) fn record_dropped(&mut self, text: &str) {
        let report = &mut self.rules[Rule::Short as usize];
        report.documents += 1;
        report.occurrences += 1;
        report.bytes_before += text.len() as u64;
        report.chars_before += count_chars(text);
        let before = excerpt(text, 0, 0);
        let priority = xxh3_64(before.as_bytes());
        report.keep(Sample {
            priority,
            before: before.to_owned(),
            after: String::new(),
        });
    }
}

fn count_chars(text: &str) -> u64 {
    text.chars().count() as u64
}

const CONTEXT_BYTES: usize = 40;
const MAX_CHANGE_BYTES: usize = 80;

/// A change, or its beginning, with some text on both sides: about 60 characters.
fn excerpt(text: &str, start: usize, end: usize) -> &str {
    let mut from = start.saturating_sub(CONTEXT_BYTES);
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let mut to = (end.min(start + MAX_CHANGE_BYTES) + CONTEXT_BYTES).min(text.len());
    while !text.is_char_boundary(to) {
        to += 1;
    }
    slice(text, from, to)
}
