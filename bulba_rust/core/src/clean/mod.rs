//! Cleaning of documents: named rules, each of which can be switched off and is counted.
//!
//! Cleaning cleaned text changes nothing: the rules are applied in turn until none of them finds anything. Text that
//! needs no cleaning costs one look at its bytes and one at its lines, and is not copied.

mod apostrophes;
mod characters;
mod edit;
mod entities;
mod homoglyphs;
mod html;
mod repeated_lines;
mod report;
mod scan;

use crate::language::Language;
pub use apostrophes::Apostrophe;
use edit::{Edit, apply};
pub use report::{CleanReport, Rule, RuleReport, Sample};
use std::borrow::Cow;

/// Which rules are on. Normal form C is no choice: every document is stored in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub control: bool,
    pub zero_width: bool,
    pub soft_hyphen: bool,
    pub html: bool,
    pub homoglyphs: bool,
    pub repeated_lines: bool,
    pub apostrophes: Apostrophe,
    /// Documents with fewer characters that are not white space are dropped.
    pub min_chars: usize,
}

impl Rules {
    /// Only normal form C.
    pub const NONE: Rules = Rules {
        control: false,
        zero_width: false,
        soft_hyphen: false,
        html: false,
        homoglyphs: false,
        repeated_lines: false,
        apostrophes: Apostrophe::Keep,
        min_chars: 0,
    };

    fn has(&self, rule: Rule) -> bool {
        match rule {
            Rule::Control => self.control,
            Rule::ZeroWidth => self.zero_width,
            Rule::SoftHyphen => self.soft_hyphen,
            Rule::Nfc => true,
            Rule::Html => self.html,
            Rule::Homoglyphs => self.homoglyphs,
            Rule::Apostrophes => self.apostrophes != Apostrophe::Keep,
            Rule::RepeatedLines => self.repeated_lines,
            Rule::Short => self.min_chars > 0,
        }
    }
}

impl Default for Rules {
    /// Every rule on, apostrophes as they are, no document too short.
    fn default() -> Self {
        Rules {
            control: true,
            zero_width: true,
            soft_hyphen: true,
            html: true,
            homoglyphs: true,
            repeated_lines: true,
            ..Rules::NONE
        }
    }
}

pub struct Cleaner {
    rules: Rules,
}

impl Cleaner {
    /// Text that is changed takes two or three; the bound is there so that no text can go on for ever.
    const MAX_ROUNDS: usize = 32;

    pub fn new(rules: Rules) -> Self {
        Cleaner { rules }
    }

    /// The cleaned text, or None for a document that is too short. Code keeps its lines, references and letters.
    pub fn clean<'t>(
        &self,
        text: &'t str,
        language: Language,
        report: &mut CleanReport,
    ) -> Option<Cow<'t, str>> {
        let mut clean = Cow::Borrowed(text);
        let mut changed = [false; Rule::ALL.len()];
        for _ in 0..Self::MAX_ROUNDS {
            if !self.round(&mut clean, language, &mut changed, report) {
                break;
            }
        }
        report.documents += 1;
        report.bytes_before += text.len() as u64;
        report.documents_changed += u64::from(changed.contains(&true));
        report.replacement_characters +=
            memchr::memmem::find_iter(clean.as_bytes(), "\u{fffd}").count() as u64;
        if self.is_short(&clean) {
            report.record_dropped(&clean);
            return None;
        }
        report.bytes_after += clean.len() as u64;
        Some(clean)
    }

    /// Applies each rule once; whether any changed the text.
    fn round(
        &self,
        text: &mut Cow<str>,
        language: Language,
        changed: &mut [bool; Rule::ALL.len()],
        report: &mut CleanReport,
    ) -> bool {
        let mut suspects = scan::scan(text);
        let mut any = false;
        for rule in Rule::ALL {
            let suspected = rule == Rule::RepeatedLines || suspects.has(rule);
            if !self.rules.has(rule) || !suspected {
                continue;
            }
            let edits = self.edits(rule, text, language);
            if edits.is_empty() {
                continue;
            }
            let new = apply(text, &edits);
            let again = std::mem::replace(&mut changed[rule as usize], true);
            report.record(rule, text, &edits, &new, again);
            suspects = scan::scan(&new);
            *text = Cow::Owned(new);
            any = true;
        }
        any
    }

    fn edits(&self, rule: Rule, text: &str, language: Language) -> Vec<Edit> {
        let prose = language != Language::Code;
        match rule {
            Rule::Control => characters::control(text),
            Rule::ZeroWidth => characters::zero_width(text),
            Rule::SoftHyphen => characters::soft_hyphen(text),
            Rule::Nfc => characters::nfc(text),
            Rule::Html if prose => html::html(text, |line| self.settle(line)),
            Rule::Homoglyphs if prose => homoglyphs::homoglyphs(text, language),
            Rule::Apostrophes if prose => apostrophes::apostrophes(text, self.rules.apostrophes),
            Rule::RepeatedLines if prose => repeated_lines::repeated_lines(text),
            _ => Vec::new(),
        }
    }

    /// `text` after the rules for single characters, uncounted.
    fn settle(&self, text: &str) -> String {
        let mut settled = text.to_owned();
        for rule in [Rule::Control, Rule::ZeroWidth, Rule::SoftHyphen, Rule::Nfc] {
            if self.rules.has(rule) && scan::scan(&settled).has(rule) {
                settled = apply(&settled, &self.edits(rule, &settled, Language::Code));
            }
        }
        settled
    }

    fn is_short(&self, text: &str) -> bool {
        let enough = self.rules.min_chars;
        text.chars().filter(|c| !c.is_whitespace()).take(enough).count() < enough
    }
}

#[cfg(test)]
mod tests;
