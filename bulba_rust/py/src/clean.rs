use crate::to_python;
use bulba_core::Error;
use bulba_core::clean::{Apostrophe, CleanReport, Cleaner, Rule, Rules};
use bulba_core::language::{Language, detect};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;

#[pyfunction]
pub fn detect_language(py: Python, text: PyBackedStr) -> &'static str {
    py.detach(|| detect(&text)).name()
}

#[pyfunction]
#[pyo3(signature = (text, rules, language = None))]
pub fn clean_text<'py>(
    py: Python<'py>,
    text: PyBackedStr,
    rules: RulesDict,
    language: Option<&str>,
) -> PyResult<(Option<String>, Bound<'py, PyDict>)> {
    let cleaner = Cleaner::new(rules.into_rules().map_err(to_python)?);
    let language = language.map(parse_language).transpose().map_err(to_python)?;
    let mut report = CleanReport::default();
    let clean = py.detach(|| {
        let language = language.unwrap_or_else(|| detect(&text));
        cleaner
            .clean(&text, language, &mut report)
            .map(|clean| clean.into_owned())
    });
    Ok((clean, clean_report_dict(py, &report)?))
}

/// `bulba.data.cleaning.Cleaning` as a dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct RulesDict {
    control: bool,
    zero_width: bool,
    soft_hyphen: bool,
    html: bool,
    homoglyphs: bool,
    repeated_lines: bool,
    apostrophes: String,
    min_chars: usize,
}

impl RulesDict {
    pub fn into_rules(self) -> bulba_core::Result<Rules> {
        let apostrophes = Apostrophe::from_name(&self.apostrophes);
        Ok(Rules {
            control: self.control,
            zero_width: self.zero_width,
            soft_hyphen: self.soft_hyphen,
            html: self.html,
            homoglyphs: self.homoglyphs,
            repeated_lines: self.repeated_lines,
            apostrophes: apostrophes.ok_or_else(|| {
                let known = Apostrophe::ALL.map(Apostrophe::name).join(", ");
                wrong("apostrophes", &format!("one of {known}"), &self.apostrophes)
            })?,
            min_chars: self.min_chars,
        })
    }
}

fn parse_language(name: &str) -> bulba_core::Result<Language> {
    let known = Language::ALL.map(Language::name).join(", ");
    Language::from_name(name).ok_or_else(|| wrong("language", &format!("one of {known}"), name))
}

fn wrong(name: &'static str, expected: &str, got: &str) -> Error {
    Error::Argument {
        name,
        expected: expected.into(),
        got: got.into(),
    }
}

pub fn clean_report_dict<'py>(py: Python<'py>, report: &CleanReport) -> PyResult<Bound<'py, PyDict>> {
    let rules = PyDict::new(py);
    for rule in Rule::ALL {
        let counts = report.rule(rule);
        let samples: Vec<(&str, &str)> = counts
            .samples()
            .iter()
            .map(|sample| (sample.before.as_str(), sample.after.as_str()))
            .collect();
        let dict = PyDict::new(py);
        dict.set_item("documents", counts.documents)?;
        dict.set_item("occurrences", counts.occurrences)?;
        dict.set_item("bytes_before", counts.bytes_before)?;
        dict.set_item("bytes_after", counts.bytes_after)?;
        dict.set_item("chars_before", counts.chars_before)?;
        dict.set_item("chars_after", counts.chars_after)?;
        dict.set_item("samples", samples)?;
        rules.set_item(rule.name(), dict)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("documents", report.documents)?;
    dict.set_item("documents_changed", report.documents_changed)?;
    dict.set_item("bytes_before", report.bytes_before)?;
    dict.set_item("bytes_after", report.bytes_after)?;
    dict.set_item("replacement_characters", report.replacement_characters)?;
    dict.set_item("rules", rules)?;
    Ok(dict)
}
