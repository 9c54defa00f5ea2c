use super::*;
use encoding_rs::Encoding;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Write;

const FORMATS: [Format; 4] = [Format::Text, Format::Json, Format::JsonLines, Format::Csv];

/// Sentences in the three languages, with the letters and signs that tell encodings apart.
const SENTENCES: [&str; 9] = [
    "Ранкам дзед запаліў печ, і ў хаце адразу запахла бульбай ды дымам.",
    "Яна ўсміхнулася: «Ты зноў спазніўся, Ясь?» – і падала яму кубак.",
    "Ціха плыла рака Нёман, а над ёю яшчэ стаяў густы белы туман.",
    "Объявление висело на двери третью неделю, но никто его не читал.",
    "Юный матрос Семён спросил: «Который час?» — и ушёл на палубу.",
    "Щука съела всю мелкую рыбу, поэтому Эмма вернулась домой ни с чем.",
    "Вранці її син поїхав до Києва, щоб купити ґудзики й теплий одяг.",
    "Ще з вечора м'який сніг укрив поля, ліси та Їжакову стежку.",
    "Об'єднання шахтарів святкує ювілей: сьогодні йому п'ятдесят років.",
];

fn read(name: &str, bytes: &[u8], format: Format, on_bad: OnBad) -> Result<(FileReport, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let mut texts = Vec::new();
    let mut sink = |text: &str| {
        texts.push(text.to_owned());
        Ok(())
    };
    let report = read_file(&path, format, on_bad, &mut sink, &mut |_, _| Ok(()))?;
    assert_eq!(report.documents, texts.len() as u64);
    assert_eq!(
        report.text_bytes,
        texts.iter().map(|text| text.len() as u64).sum::<u64>()
    );
    Ok((report, texts))
}

fn kept(name: &str, bytes: &[u8], format: Format) -> (FileReport, Vec<String>) {
    read(name, bytes, format, OnBad::Skip).unwrap()
}

/// The one reject of a file, and what the same file says under `fail`.
fn refused(name: &str, bytes: &[u8], format: Format) -> (Reject, String) {
    let (report, _) = kept(name, bytes, format);
    assert_eq!(report.num_rejected, 1, "{report:?}");
    let error = read(name, bytes, format, OnBad::Fail).unwrap_err().to_string();
    assert!(
        error.contains(name) && error.contains("data.on_bad=skip"),
        "{error}"
    );
    (report.rejects.into_iter().next().unwrap(), error)
}

/// A file of that format that holds the texts; `variant` picks among the ways to write it.
fn written(texts: &[String], format: Format, variant: usize) -> String {
    let object = |text: &String| serde_json::json!({"id": 1, "text": text, "more": {"text": [1, "]"]}});
    let item = |text: &String| match variant % 2 {
        0 => object(text),
        _ => serde_json::json!(text),
    };
    match format {
        Format::Text => texts.concat(),
        Format::Json => {
            let items: Vec<_> = texts.iter().map(item).collect();
            if variant < 2 {
                serde_json::to_string_pretty(&items).unwrap()
            } else {
                serde_json::to_string(&items).unwrap()
            }
        }
        Format::JsonLines => texts.iter().map(|text| format!("{}\n", item(text))).collect(),
        Format::Csv => {
            let delimiter = [",", ";", "\t"][variant % 3];
            let line_end = ["\n", "\r\n"][variant % 2];
            let quoted = |text: &String| format!("\"{}\"", text.replace('"', "\"\""));
            let rows = texts
                .iter()
                .map(|text| format!("7{delimiter}{}{line_end}", quoted(text)));
            format!("id{delimiter}\"text\"{line_end}{}", rows.collect::<String>())
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// Packs bytes in two members or frames, a skippable zstd frame between them.
fn packed(bytes: &[u8], extension: &str) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    match extension {
        ".gz" => [gzip(first), gzip(second)].concat(),
        ".zst" => [
            zstd(first),
            b"\x53\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
            zstd(second),
        ]
        .concat(),
        _ => bytes.to_vec(),
    }
}

fn utf16(text: &str, big_endian: bool, mark: bool) -> Vec<u8> {
    let marked = format!("{}{text}", if mark { "\u{feff}" } else { "" });
    let bytes = |unit: u16| {
        if big_endian {
            unit.to_be_bytes()
        } else {
            unit.to_le_bytes()
        }
    };
    marked.encode_utf16().flat_map(bytes).collect()
}

/// Without the characters that the encoding lacks.
fn encoded(text: &str, name: &str) -> Vec<u8> {
    let encoding = Encoding::for_label(name.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    for character in text.chars() {
        let character = character.to_string();
        let (byte, _, lost) = encoding.encode(&character);
        if !lost {
            bytes.extend_from_slice(&byte);
        }
    }
    bytes
}

fn decoded(bytes: &[u8], name: &str) -> String {
    let encoding = Encoding::for_label(name.as_bytes()).unwrap();
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

fn in_encoding(text: &str, name: &str) -> Vec<u8> {
    match name {
        "UTF-8" => text.as_bytes().to_vec(),
        "UTF-8 with a mark" => format!("\u{feff}{text}").into_bytes(),
        "UTF-16LE" => utf16(text, false, true),
        "UTF-16BE" => utf16(text, true, true),
        "UTF-16LE without a mark" => utf16(text, false, false),
        "UTF-16BE without a mark" => utf16(text, true, false),
        _ => encoded(text, name),
    }
}

const READABLE: [&str; 9] = [
    "UTF-8",
    "UTF-8 with a mark",
    "UTF-16LE",
    "UTF-16BE",
    "UTF-16LE without a mark",
    "UTF-16BE without a mark",
    "windows-1251",
    "KOI8-R",
    "KOI8-U",
];

proptest! {
    #[test]
    fn documents_come_back_from_every_format_packing_and_encoding(
        picks in prop::collection::vec((0..SENTENCES.len(), 0..SENTENCES.len()), 4..12),
        format in prop::sample::select(&FORMATS[..]), extension in prop::sample::select(&["", ".gz", ".zst"][..]),
        encoding in prop::sample::select(&READABLE[..]), variant in 0usize..6,
    ) {
        let lossless = |text: &str| match encoding {
            "windows-1251" | "KOI8-R" | "KOI8-U" => decoded(&encoded(text, encoding), encoding),
            _ => text.to_owned(),
        };
        let texts: Vec<String> = picks.iter()
            .map(|&(one, two)| lossless(&format!("{}\n\"{}\"\n", SENTENCES[one], SENTENCES[two]))).collect();
        let bytes = packed(&in_encoding(&written(&texts, format, variant), encoding), extension);
        let (report, found) = kept(&format!("file{extension}"), &bytes, format);
        let expected = if format == Format::Text { vec![texts.concat()] } else { texts };
        prop_assert_eq!(&report.rejects, &vec![]);
        prop_assert_eq!(found, expected);
        // Without letters of its own KOI8-U is KOI8-R.
        let name = encoding.split(' ').next().unwrap();
        prop_assert!(report.encoding == name || (report.encoding == "KOI8-R" && name == "KOI8-U"));
    }

    #[test]
    fn any_text_comes_back(
        texts in prop::collection::vec("[^\0]{0,40}", 0..12), variant in 0usize..6, mark: bool,
        extension in prop::sample::select(&["", ".gz", ".zst"][..]),
    ) {
        for format in [Format::Json, Format::JsonLines, Format::Csv] {
            let body = written(&texts, format, variant);
            let bytes = packed(&in_encoding(&body, if mark { "UTF-8 with a mark" } else { "UTF-8" }), extension);
            let (report, found) = kept(&format!("file{extension}"), &bytes, format);
            prop_assert_eq!(&report.rejects, &vec![]);
            prop_assert_eq!(&found, &texts);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_fail_agrees_with_skip(
        bytes in prop::collection::vec(any::<u8>(), 0..200), header: bool, in_archive: bool,
        extension in prop::sample::select(&["", ".gz", ".zst"][..]),
    ) {
        for format in FORMATS {
            let body = if header { [b"text,id\n".as_slice(), &bytes].concat() } else { bytes.clone() };
            let body = if in_archive { packed(&body, extension) } else { body };
            let name = format!("file{extension}");
            let (report, found) = kept(&name, &body, format);
            match read(&name, &body, format, OnBad::Fail) {
                Ok(strict) => prop_assert_eq!(strict, (report, found)),
                Err(_) => prop_assert!(report.num_rejected > 0),
            }
        }
    }

    #[test]
    fn a_damaged_archive_never_panics_and_keeps_only_whole_documents(
        flip in any::<prop::sample::Index>(), mask in 1u8.., cut in any::<prop::sample::Index>(), truncate: bool,
        extension in prop::sample::select(&[".gz", ".zst"][..]),
    ) {
        let texts: Vec<String> = (0..500).map(|number| format!("{number} {}", SENTENCES[number % 9])).collect();
        let mut bytes = packed(written(&texts, Format::JsonLines, 0).as_bytes(), extension);
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        } else {
            let at = flip.index(bytes.len());
            bytes[at] ^= mask;
        }
        let (report, found) = kept(&format!("a.jsonl{extension}"), &bytes, Format::JsonLines);
        if truncate {
            prop_assert_eq!(&found[..], &texts[..found.len()]);
            // Cut between its two members an archive is whole.
            prop_assert!(report.num_rejected <= 1);
        }
        if report.num_rejected == 1 && report.rejects[0].reason.contains("archive") && !found.is_empty() {
            let kept = format!("the {} documents before it were kept", found.len());
            prop_assert!(report.rejects[0].reason.contains(&kept), "{:?}", report.rejects);
        }
        let strict = read(&format!("a.jsonl{extension}"), &bytes, Format::JsonLines, OnBad::Fail);
        prop_assert_eq!(report.num_rejected > 0, strict.is_err());
    }

    #[test]
    fn what_is_converted_is_right(
        picks in prop::collection::vec(0..SENTENCES.len(), 1..9), start in 0usize..60, length in 1usize..900,
        name in prop::sample::select(&["windows-1251", "KOI8-R", "KOI8-U", "IBM866", "ISO-8859-5", "x-mac-cyrillic"][..]),
    ) {
        let text: String = picks.iter().map(|&pick| SENTENCES[pick]).collect();
        let bytes = encoded(&text, name);
        let cut = &bytes[start.min(bytes.len())..(start + length).min(bytes.len())];
        for found in kept("a.txt", cut, Format::Text).1 {
            prop_assert_eq!(found, decoded(cut, name));
        }
    }

    #[test]
    fn damage_does_not_make_utf8_another_encoding(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
    ) {
        let mut lines: Vec<u8> = SENTENCES.iter().flat_map(|sentence| format!("{sentence}\n").into_bytes()).collect();
        for (at, byte) in damage {
            let at = at.index(lines.len());
            lines[at] = byte;
        }
        let (report, texts) = kept("a.tsv", &[b"text\n".as_slice(), &lines].concat(), Format::Csv);
        prop_assert_eq!(report.encoding, "UTF-8");
        for text in texts {
            prop_assert!(memchr::memmem::find(&lines, text.as_bytes()).is_some());
        }
    }

    #[test]
    fn cuts_of_a_text_lose_nothing(words in prop::collection::vec("[aў\\n\r 🥔]{0,9}", 1..40)) {
        let text = words.concat();
        let mut rest = text.as_bytes();
        while rest.len() > 4 {
            let end = text::cut(rest);
            prop_assert!(end > 0 && end <= rest.len());
            prop_assert!(std::str::from_utf8(&rest[..end]).is_ok());
            rest = &rest[end..];
        }
    }
}

#[test]
fn a_broken_line_is_named_and_the_others_are_kept() {
    let body = "\"one\"\n{\"text\": \"two\"\n\n{\"txt\": 3}\n{\"text\": 4}\n[5]\r\n\"six\"".as_bytes();
    let (report, texts) = kept("a.jsonl", body, Format::JsonLines);
    assert_eq!(texts, ["one", "six"]);
    let places: Vec<_> = report
        .rejects
        .iter()
        .map(|reject| reject.place.as_str())
        .collect();
    assert_eq!(places, ["line 2", "line 4", "line 5", "line 6"]);
    assert!(
        report.rejects[0].reason.contains("column"),
        "{:?}",
        report.rejects[0]
    );
    assert!(report.rejects[1].reason.contains("without `text`"));
    let error = read("a.jsonl", body, Format::JsonLines, OnBad::Fail)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a.jsonl, line 2") && error.contains("data.on_bad=skip"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_utf8_is_named_with_its_offset() {
    let (reject, error) = refused("a.txt", b"abc\xff\xfe", Format::Text);
    assert_eq!(reject.place, "byte 3");
    assert!(error.contains("not UTF-8 at byte 3"), "{error}");
    assert!(error.contains("convert it to UTF-8"), "{error}");
}

#[test]
fn a_line_that_is_not_utf8_costs_only_that_line() {
    let (report, texts) = kept("a.jsonl", b"\"one\"\n\"tw\xe9\"\n\"three\"\n", Format::JsonLines);
    assert_eq!(texts, ["one", "three"]);
    assert_eq!(report.rejects[0].place, "line 2");
    assert!(
        report.rejects[0].reason.contains("byte 9"),
        "{:?}",
        report.rejects[0]
    );
}

#[test]
fn a_json_element_that_is_not_utf8_costs_only_itself() {
    let (report, texts) = kept("a.json", b"[\"one\", \"tw\xe9\",\n\"three\"]", Format::Json);
    assert_eq!(texts, ["one", "three"]);
    assert_eq!(report.rejects[0].place, "byte 11");
}

#[test]
fn a_json_file_that_breaks_off_keeps_what_came_before_and_says_so() {
    let (report, texts) = kept("a.json", b"[\"one\",\n \"two\",\n \"thr", Format::Json);
    assert_eq!(texts, ["one", "two"]);
    assert_eq!(report.num_rejected, 1);
    assert_eq!(report.rejects[0].place, "line 3");
    assert!(
        report.rejects[0]
            .reason
            .contains("2 documents before it were kept")
    );
}

#[test]
fn broken_json_is_named_by_line_and_column() {
    for (body, place, reason) in [
        ("[\"a\",\n  tru]", "line 2", "a value breaks off at column 5"),
        ("[{\"text\":\n\n 1 2}]", "line 3", "at column 4"),
        ("[\"a\"", "line 1", "the list is not closed"),
        ("[\"a\"] x", "line 1", "trailing characters"),
        ("[\"a\"}", "line 1", "a closing brace too many"),
        ("[\"a\",]", "line 1", "a value breaks off"),
        ("{\"text\": \"a\"} {}", "line 1", "trailing characters"),
    ] {
        let (reject, _) = refused("a.json", body.as_bytes(), Format::Json);
        assert_eq!(reject.place, place, "{body}");
        assert!(
            reject.reason.contains("broken JSON") && reject.reason.contains(reason),
            "{reject:?}"
        );
    }
}

#[test]
fn json_of_another_shape_is_rejected() {
    for body in [
        "3",
        "\"alone\"",
        "{\"data\": []}",
        "null",
        "[1]",
        "[[\"a\"]]",
        "{\"text\": null}",
        "",
    ] {
        let (report, texts) = kept("a.json", body.as_bytes(), Format::Json);
        assert!(texts.is_empty() && report.num_rejected == 1, "{body}: {report:?}");
    }
    assert_eq!(kept("a.json", b" {\"text\": \"one\"} ", Format::Json).1, ["one"]);
    assert_eq!(kept("a.json", b"[]", Format::Json).0.num_rejected, 0);
}

#[test]
fn only_the_first_rejects_are_kept_but_all_are_counted() {
    let (report, _) = kept("a.jsonl", "{}\n".repeat(50).as_bytes(), Format::JsonLines);
    assert_eq!(
        (report.num_rejected, report.rejects.len()),
        (50, FileReport::MAX_REJECTS)
    );
}

#[test]
fn a_long_text_is_cut_at_blank_lines_and_counted() {
    let paragraph = format!("{}\n{}\n\n", SENTENCES[0].repeat(40), SENTENCES[1].repeat(40));
    let text = paragraph.repeat(40 * (1 << 20) / paragraph.len());
    let (report, texts) = kept("a.txt", text.as_bytes(), Format::Text);
    assert_eq!((report.num_cuts, texts.len()), (2, 3));
    assert!(
        texts
            .iter()
            .all(|part| part.ends_with("\n\n") && part.len() <= MAX_TEXT_BYTES)
    );
    assert_eq!(texts.concat(), text);
    assert_eq!(
        kept("a.txt", &text.as_bytes()[..MAX_TEXT_BYTES - 1], Format::Text)
            .0
            .num_cuts,
        0
    );
}

#[test]
fn a_record_that_is_too_long_costs_only_itself() {
    let long = "a".repeat(MAX_RECORD_BYTES + 10);
    for (format, body, place) in [
        (
            Format::JsonLines,
            format!("\"one\"\n\"{long}\"\n\"two\"\n"),
            "line 2",
        ),
        (
            Format::Json,
            format!("[\"one\",\n\"{long}\", \"two\"]"),
            "element 2",
        ),
        (
            Format::Csv,
            format!("text,n\none,1\n\"{long}\",2\ntwo,3\n"),
            "line 3",
        ),
    ] {
        let (report, texts) = kept("file", body.as_bytes(), format);
        assert_eq!(texts, ["one", "two"]);
        let reject = &report.rejects[0];
        assert_eq!(
            (reject.place.as_str(), reject.reason.as_str()),
            (place, "longer than 64 MiB")
        );
    }
}

#[test]
fn tables_are_read_by_their_header_row() {
    for (body, expected) in [
        ("id,text\n1,one\n2,\"two\nlines\"\n", vec!["one", "two\nlines"]),
        ("text\n\"a, b\"\nc;d\te\n\nf", vec!["a, b", "c;d\te", "f"]),
        ("id;text;x\r\n1;a, b;\r\n", vec!["a, b"]),
        ("id\ttext\n1\tit's 5\" long\n", vec!["it's 5\" long"]),
        (" text , id\n\"say \"\"hi\"\"\",2", vec!["say \"hi\""]),
        ("text\n", vec![]),
    ] {
        let (report, texts) = kept("a.csv", body.as_bytes(), Format::Csv);
        assert_eq!(
            (texts, report.num_rejected),
            (expected.iter().map(|&text| text.to_owned()).collect(), 0),
            "{body}"
        );
    }
    assert_eq!(
        kept("a.tsv.gz", &gzip(b"text\na, b; c\n"), Format::Csv).1,
        ["a, b; c"]
    );
}

#[test]
fn broken_rows_are_named_by_the_line_they_begin_on() {
    let body = "id,text\n\n1,\"a\nb\"\r\n2,c,d\n3\n4,\"e\nf";
    let (report, texts) = kept("a.csv", body.as_bytes(), Format::Csv);
    assert_eq!(texts, ["a\nb"]);
    let rejects: Vec<_> = report
        .rejects
        .iter()
        .map(|reject| (reject.place.as_str(), reject.reason.as_str()))
        .collect();
    assert_eq!(
        rejects,
        [
            ("line 5", "3 fields where the header row has 2"),
            ("line 6", "1 fields where the header row has 2"),
            ("line 7", "a quote that is not closed"),
        ]
    );
}

#[test]
fn a_table_without_the_column_names_those_there() {
    let (reject, error) = refused("a.csv", "body;url;мова\nx;y;z\n".as_bytes(), Format::Csv);
    assert_eq!(reject.place, "line 1");
    assert!(
        reject
            .reason
            .contains("no column `text` in the header row, only body, url, мова"),
        "{reject:?}"
    );
    assert!(error.contains("rename the one that holds the text"), "{error}");
    assert!(
        refused("a.csv", b"", Format::Csv)
            .0
            .reason
            .contains("no header row")
    );
}

#[test]
fn an_archive_that_breaks_off_keeps_what_came_before_and_says_so() {
    let lines: String = (0..9000)
        .map(|number| format!("\"{number} {}\"\n", SENTENCES[number % 9]))
        .collect();
    for (extension, name) in [(".gz", "gzip"), (".zst", "zstd")] {
        let bytes = packed(lines.as_bytes(), extension);
        let (report, texts) = kept(
            &format!("a.jsonl{extension}"),
            &bytes[..bytes.len() - 5],
            Format::JsonLines,
        );
        assert!(texts.len() > 4000 && report.num_rejected == 1);
        let reject = &report.rejects[0];
        assert!(reject.place.starts_with("after byte "), "{reject:?}");
        assert!(
            reject.reason.contains(&format!(
                "the {name} archive breaks off; the {} documents",
                texts.len()
            )),
            "{reject:?}"
        );
        let (reject, error) = refused(
            &format!("a.txt{extension}"),
            b"not an archive at all",
            Format::Text,
        );
        assert!(
            reject.reason.contains(&format!("the {name} archive is broken")),
            "{reject:?}"
        );
        assert!(error.contains("after byte 0"), "{error}");
        assert!(
            refused(&format!("a.txt{extension}"), b"", Format::Text)
                .0
                .reason
                .contains("breaks off")
        );
        let (reject, _) = refused("a.txt", &bytes, Format::Text);
        assert!(
            reject
                .reason
                .contains(&format!("a {name} archive: let its name end in {extension}")),
            "{reject:?}"
        );
    }
}

#[test]
fn a_wrong_checksum_is_seen() {
    for extension in [".gz", ".zst"] {
        let mut bytes = packed(SENTENCES.concat().as_bytes(), extension);
        let last = bytes.len() - if extension == ".gz" { 8 } else { 1 };
        bytes[last] ^= 1;
        assert!(
            refused(&format!("a.txt{extension}"), &bytes, Format::Text)
                .0
                .reason
                .contains("is broken")
        );
    }
}

#[test]
fn letters_after_megabytes_of_ascii_are_recognised() {
    let ascii = "\"plain words\"\n".repeat(300_000);
    let lines: String = SENTENCES
        .iter()
        .map(|sentence| format!("{}\n", serde_json::json!(sentence)))
        .collect();
    for name in ["windows-1251", "KOI8-U", "UTF-8"] {
        let bytes = [ascii.clone().into_bytes(), in_encoding(&lines, name)].concat();
        let (report, texts) = kept("a.jsonl.gz", &gzip(&bytes), Format::JsonLines);
        assert_eq!((report.num_rejected, report.encoding), (0, name));
        assert_eq!(
            texts.last().unwrap(),
            &decoded(&in_encoding(SENTENCES[8], name), name)
        );
    }
}

#[test]
fn seldom_encodings_are_refused_by_name() {
    for name in ["IBM866", "ISO-8859-5", "x-mac-cyrillic"] {
        let bytes = encoded(&SENTENCES.join("\n"), name);
        for (file, body) in [
            ("a.txt", bytes.clone()),
            ("a.tsv.gz", gzip(&[b"text\n".as_slice(), &bytes].concat())),
        ] {
            let format = if file == "a.txt" {
                Format::Text
            } else {
                Format::Csv
            };
            let (reject, error) = refused(file, &body, format);
            assert!(
                reject
                    .reason
                    .contains(&format!("it looks like {name}): convert it to UTF-8")),
                "{reject:?}"
            );
            assert!(
                error.contains(&format!("(it looks like {name}): convert it to UTF-8")),
                "{error}"
            );
        }
    }
}

#[test]
fn what_is_not_certain_is_refused_with_the_likely_encodings() {
    let (reject, error) = refused("a.txt", &encoded("новое утро", "windows-1251"), Format::Text);
    assert_eq!(reject.place, "byte 0");
    assert!(
        reject.reason.contains("perhaps windows-1251 or x-mac-cyrillic"),
        "{reject:?}"
    );
    assert!(
        error.contains("which is not certain): convert it to UTF-8"),
        "{error}"
    );
}

#[test]
fn text_of_other_languages_and_encodings_is_never_converted() {
    for (text, name) in [
        (
            "Przykładowy tekst: zażółć gęślą jaźń, a potem wróć do domu. ",
            "windows-1250",
        ),
        (
            "L'été dernier, la forêt brûlait près du château où j'étais né. ",
            "windows-1252",
        ),
        (
            "Το πρωί ο παππούς άναψε τη φωτιά και το σπίτι μύρισε καπνό. ",
            "windows-1253",
        ),
        (
            "בבוקר הדליק סבא את התנור והבית התמלא ריח של עשן. ",
            "windows-1255",
        ),
        (
            "今朝祖父は暖炉に火をつけ、家は煙の匂いで満たされた。",
            "shift_jis",
        ),
        ("清晨祖父点燃了炉子，屋子里立刻弥漫着烟味。", "gbk"),
    ] {
        let bytes = encoded(&text.repeat(30), name);
        for body in [bytes.clone(), bytes[..300].to_vec()] {
            let (reject, _) = refused("a.txt", &body, Format::Text);
            assert!(reject.reason.contains("not UTF-8"), "{name}: {reject:?}");
        }
    }
}

#[test]
fn damaged_utf8_stays_utf8() {
    let lines: String = SENTENCES
        .iter()
        .map(|sentence| format!("\"{sentence}\"\n"))
        .collect();
    for damage in [b"\xff".as_slice(), b"\xd0", &encoded("слова", "windows-1251")] {
        let first = [b"\"", damage, b"\"\n", lines.as_bytes()].concat();
        let last = [lines.as_bytes(), b"\"", damage, b"\"\n"].concat();
        for body in [first, last] {
            let (report, texts) = kept("a.jsonl", &body, Format::JsonLines);
            assert_eq!(texts, SENTENCES);
            assert_eq!((report.num_rejected, report.encoding), (1, "UTF-8"));
        }
    }
}

#[test]
fn a_part_in_another_encoding_is_left_out_and_named() {
    let lines = |name: &str| {
        let lines = SENTENCES
            .iter()
            .map(|sentence| [in_encoding(sentence, name), b"\n".to_vec()].concat());
        lines.collect::<Vec<_>>().concat()
    };
    let table =
        |first: &str, second: &str| [b"text\n".to_vec(), lines(first).repeat(200), lines(second)].concat();
    for (first, second) in [
        ("windows-1251", "UTF-8"),
        ("windows-1251", "KOI8-U"),
        ("KOI8-U", "windows-1251"),
        ("KOI8-R", "IBM866"),
    ] {
        let (report, texts) = kept("a.tsv", &table(first, second), Format::Csv);
        let expected: Vec<String> = SENTENCES
            .iter()
            .map(|sentence| decoded(&encoded(sentence, first), first))
            .collect();
        assert_eq!(texts[1800..], [""; 0], "{first}, then {second}");
        assert_eq!(texts[1791..], expected, "{first}, then {second}");
        assert_eq!(report.num_rejected, 9);
        assert!(
            report.rejects[0]
                .reason
                .contains(&format!("in a file of {first}")),
            "{:?}",
            report.rejects[0]
        );
    }
    let (report, texts) = kept("a.tsv", &table("UTF-8", "windows-1251"), Format::Csv);
    assert_eq!((texts.len(), report.num_rejected), (1800, 9));
    assert!(
        report.rejects[0].reason.contains("windows-1251"),
        "{:?}",
        report.rejects[0]
    );
    let mixed = [
        encoded(&SENTENCES.join("\n"), "windows-1251"),
        SENTENCES.join("\n").into_bytes(),
    ]
    .concat();
    let (report, texts) = kept("a.txt", &mixed, Format::Text);
    assert_eq!((texts.len(), report.num_rejected), (0, 1));
    let western = [
        encoded(&SENTENCES.join("\n"), "windows-1251"),
        b"\nL'\xe9t\xe9 dernier, la for\xeat".to_vec(),
    ]
    .concat();
    let lines: Vec<u8> = [b"text\n".as_slice(), &western].concat();
    let (report, texts) = kept("a.tsv", &lines, Format::Csv);
    assert_eq!((texts.len(), report.num_rejected), (9, 1));
    assert!(
        report.rejects[0].reason.contains("Western"),
        "{:?}",
        report.rejects
    );
}

#[test]
fn a_byte_that_the_encoding_lacks_costs_its_document() {
    let mut table = [b"text\n".to_vec(), encoded(&SENTENCES.join("\n"), "windows-1251")].concat();
    let at = table.len() - 3;
    table[at] = 0x98;
    let (report, texts) = kept("a.tsv", &table, Format::Csv);
    assert_eq!((texts.len(), report.num_rejected), (8, 1));
    assert!(
        report.rejects[0]
            .reason
            .contains("0x98, which windows-1251 does not have"),
        "{:?}",
        report.rejects
    );
}

#[test]
fn damaged_utf16_costs_its_document() {
    let mut body = utf16("\"one\"\n\"tw?\"\n\"three\"\n", false, true);
    let at = body.iter().position(|&byte| byte == b'?').unwrap();
    body[at + 1] = 0xd8;
    let (report, texts) = kept("a.jsonl", &body, Format::JsonLines);
    assert_eq!(
        (texts, report.encoding),
        (vec!["one".to_owned(), "three".to_owned()], "UTF-16LE")
    );
    assert_eq!(
        (
            report.rejects[0].place.as_str(),
            report.rejects[0].reason.as_str()
        ),
        ("line 2", "damaged UTF-16LE")
    );
    body.truncate(body.len() - 1);
    assert_eq!(kept("a.jsonl", &body, Format::JsonLines).0.num_rejected, 2);
    assert!(
        refused("a.txt", b"\xff\xfe\0\0a\0\0\0", Format::Text)
            .0
            .reason
            .contains("UTF-32")
    );
}

#[test]
fn binary_files_are_refused() {
    let (reject, error) = refused("a.txt", b"\x7fELF\x02\x01\x01\0\0\0rest", Format::Text);
    assert_eq!(reject.place, "byte 7");
    assert!(
        error.contains("a zero byte, so this is a binary file and no text"),
        "{error}"
    );
    let samples: Vec<u8> = (0..4000i16)
        .flat_map(|number| (number * 7 % 300).to_le_bytes())
        .collect();
    assert!(
        refused("a.txt", &samples, Format::Text)
            .0
            .reason
            .contains("binary")
    );
    let late = [vec![b'a'; 1 << 17], b"\0".to_vec()].concat();
    assert!(
        refused("a.txt", &late, Format::Text)
            .0
            .reason
            .contains("a zero byte, which is no text")
    );
    let (report, texts) = kept(
        "a.csv",
        &[b"text\n".as_slice(), &late, b"\nb\n"].concat(),
        Format::Csv,
    );
    assert_eq!((texts, report.num_rejected), (vec!["b".to_owned()], 1));
}

#[test]
fn a_missing_file_and_an_interruption_end_the_reading() {
    let mut sink = |_: &str| Ok(());
    let missing = read_file(
        Path::new("no/such.txt"),
        Format::Text,
        OnBad::Skip,
        &mut sink,
        &mut |_, _| Ok(()),
    );
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("cannot open no/such.txt")
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl.gz");
    std::fs::write(&path, gzip(b"\"a\"\n")).unwrap();
    let mut seen = Vec::new();
    let mut progress = |done, total| {
        seen.push((done, total));
        Ok(())
    };
    read_file(&path, Format::JsonLines, OnBad::Skip, &mut sink, &mut progress).unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    assert_eq!(seen.last(), Some(&(size, size)));
    let stopped = read_file(&path, Format::JsonLines, OnBad::Skip, &mut sink, &mut |_, _| {
        Err(Error::Interrupted)
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
