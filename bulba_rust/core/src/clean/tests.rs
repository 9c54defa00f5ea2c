use super::*;
use proptest::prelude::*;

fn clean_with(rules: Rules, text: &str, language: Language) -> (Option<String>, CleanReport) {
    let mut report = CleanReport::default();
    let clean = Cleaner::new(rules).clean(text, language, &mut report);
    (clean.map(Cow::into_owned), report)
}

/// Every rule on.
fn clean(text: &str, language: Language) -> String {
    clean_with(Rules::default(), text, language).0.unwrap()
}

fn assert_kept(text: &str, language: Language) {
    let (kept, report) = clean_with(Rules::default(), text, language);
    assert_eq!(kept.as_deref(), Some(text));
    assert_eq!(report.documents_changed, 0);
}

const ALL_LANGUAGES: [Language; 6] = [
    Language::Other,
    Language::Be,
    Language::Ru,
    Language::Uk,
    Language::En,
    Language::Code,
];

/// Pieces that matter to some rule, so that random texts are full of half-made and nested cases.
fn hostile_piece() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "&amp;",
        "&lt;",
        "&gt;",
        "&nbsp;",
        "&shy;",
        "&#173;",
        "&#8203;",
        "&#769;",
        "&#x41;",
        "&#38;",
        "&#59;",
        "&#96;",
        "&#10;",
        "&",
        ";",
        "amp;",
        "shy;",
        "#",
        "lt",
        "gt;",
        "<",
        ">",
        "<b>",
        "</b>",
        "<br>",
        "<br/>",
        "<p>",
        "</p>",
        "<a href=\"x\">",
        "</a>",
        "<code>",
        "<wbr>",
        "/",
        "b",
        "`",
        "``",
        "```",
        "~~~",
        "    ",
        "\t",
        "\n",
        "\n\n",
        "\r",
        "\r\n",
        "\u{b}",
        "\u{c}",
        "\u{85}",
        "\u{2028}",
        "\u{0}",
        "\u{1b}",
        "\u{ad}",
        "\u{200b}",
        "\u{200d}",
        "\u{200c}",
        "\u{feff}",
        "\u{202e}",
        "\u{fffd}",
        "👩",
        "❤",
        "\u{fe0f}",
        "क",
        "ی",
        "\u{301}",
        "\u{306}",
        "\u{308}",
        "\u{327}",
        "е",
        "и",
        "i",
        " i ",
        "I",
        "ї",
        "ï",
        "а",
        "a",
        "о",
        "o",
        "с",
        "c",
        "Х",
        "X",
        "І",
        "мова",
        "мoва",
        "кіт",
        "т",
        " ",
        ",",
        ".",
        "-",
        "'",
        "\u{2019}",
        "\u{2bc}",
        "1",
        "_",
        "|",
        "> ",
        "- ",
        "\u{37e}",
        "\u{212a}",
        "Ця стрічка довга, і вона повторюється в тексті багато разів.\n",
        "Меню сайта тут\n",
        "<pre>",
        "</pre>",
    ]);
    prop_oneof![
        8 => pieces.prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,4}",
    ]
}

fn hostile_text() -> impl Strategy<Value = String> {
    let text = || prop::collection::vec(hostile_piece(), 0..40).prop_map(|pieces| pieces.concat());
    let repeated = (text(), 1..12usize).prop_map(|(text, times)| text.repeat(times));
    prop_oneof![3 => text(), 1 => repeated]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let switches = prop::array::uniform6(prop::bool::weighted(0.8));
    let apostrophes = prop::sample::select(Apostrophe::ALL.to_vec());
    (switches, apostrophes).prop_map(|(on, apostrophes)| Rules {
        control: on[0],
        zero_width: on[1],
        soft_hyphen: on[2],
        html: on[3],
        homoglyphs: on[4],
        repeated_lines: on[5],
        apostrophes,
        min_chars: 0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn cleaning_twice_is_cleaning_once(
        text in hostile_text(),
        rules in any_rules(),
        language in prop::sample::select(ALL_LANGUAGES.to_vec()),
    ) {
        let (once, _) = clean_with(rules, &text, language);
        let once = once.unwrap();
        prop_assert!(unicode_normalization::is_nfc(&once));
        let (twice, report) = clean_with(rules, &once, language);
        prop_assert_eq!(twice.as_deref(), Some(once.as_str()));
        prop_assert_eq!(report.documents_changed, 0);
        for rule in Rule::ALL {
            prop_assert_eq!(report.rule(rule).occurrences, 0, "{}", rule.name());
        }
    }

    /// The scan may name a rule for nothing; it must not leave one out.
    #[test]
    fn the_scan_leaves_no_rule_out(text in hostile_text(), language in prop::sample::select(ALL_LANGUAGES.to_vec())) {
        let cleaner = Cleaner::new(Rules { apostrophes: Apostrophe::U2019, ..Rules::default() });
        let suspects = scan::scan(&text);
        for rule in Rule::ALL {
            if rule != Rule::RepeatedLines && !suspects.has(rule) {
                prop_assert_eq!(cleaner.edits(rule, &text, language), vec![], "{}", rule.name());
            }
        }
    }
}

/// Each rule alone on (before, after).
fn assert_mends(rules: Rules, language: Language, cases: &[(&str, &str)]) {
    for (before, after) in cases {
        assert_eq!(
            clean_with(rules, before, language).0.as_deref(),
            Some(*after),
            "{before:?}"
        );
    }
}

#[test]
fn control_characters_go_and_line_breaks_are_one() {
    let rules = Rules {
        control: true,
        ..Rules::NONE
    };
    assert_mends(
        rules,
        Language::Be,
        &[
            ("а\r\nб\rв\u{85}г\u{2028}д\u{2029}е", "а\nб\nв\nг\nд\nе"),
            ("а\u{0}\u{1b}[31m\tб\u{7f}\u{9d}", "а[31m\tб"),
            ("а\u{c}б", "а\nб"),
            ("а\n\u{c}\nб\u{c}", "а\n\nб"),
            ("а\u{b}\u{b}б", "а\nб"),
            ("а\u{fffd}б \u{a0}", "а\u{fffd}б \u{a0}"),
        ],
    );
    let (_, report) = clean_with(rules, "\u{fffd}а\u{fffd}", Language::Be);
    assert_eq!((report.replacement_characters, report.documents_changed), (2, 0));
}

#[test]
fn zero_width_characters_go_but_where_they_shape() {
    let rules = Rules {
        zero_width: true,
        ..Rules::NONE
    };
    assert_mends(
        rules,
        Language::Uk,
        &[
            ("\u{feff}сло\u{200b}во\u{2060}\u{200e}\u{202e}", "слово"),
            ("сло\u{200d}во a\u{200c}b", "слово ab"),
            (
                "👩\u{200d}👩\u{200d}👦 ❤\u{fe0f}\u{200d}🔥",
                "👩\u{200d}👩\u{200d}👦 ❤\u{fe0f}\u{200d}🔥",
            ),
            ("👩\u{200d} \u{200d}👦", "👩 👦"),
            (
                "می\u{200c}خواهم क\u{94d}\u{200d}ष",
                "می\u{200c}خواهم क\u{94d}\u{200d}ष",
            ),
        ],
    );
}

#[test]
fn soft_hyphens_go_with_the_line_break_they_made() {
    let rules = Rules {
        soft_hyphen: true,
        ..Rules::NONE
    };
    assert_mends(
        rules,
        Language::Ru,
        &[
            ("пе\u{ad}ре\u{ad}нос", "перенос"),
            (
                "пере\u{ad}\n   нос слова\u{ad}\n\nдальше",
                "перенос слова\n\nдальше",
            ),
            ("5\u{ad}\n- пункт", "5\n- пункт"),
        ],
    );
}

#[test]
fn every_text_is_brought_into_nfc() {
    assert_mends(
        Rules::NONE,
        Language::Be,
        &[
            ("мои\u{306}\nі\u{308}жак за\u{301}мак", "мой\nїжак за\u{301}мак"),
            ("\u{212a}", "K"),
        ],
    );
    let (_, report) = clean_with(Rules::NONE, "мои\u{306}\nтвои\u{306} наш", Language::Be);
    let counts = report.rule(Rule::Nfc);
    assert_eq!((counts.documents, counts.occurrences), (1, 2));
    assert_eq!((counts.chars_before, counts.chars_after), (14, 12));
}

#[test]
fn leftovers_of_html_go() {
    let rules = Rules {
        html: true,
        ..Rules::NONE
    };
    assert_mends(
        rules,
        Language::Be,
        &[
            (
                "Жыў&nbsp;быў &laquo;дзед&raquo; &#8212; і баба&#x2026;",
                "Жыў\u{a0}быў «дзед» — і баба…",
            ),
            ("м&#1110;р &#151; слова&shy;м", "мір — слова\u{ad}м"),
            ("Сымон &amp; сыны, 2 &lt; 3", "Сымон & сыны, 2 < 3"),
            ("за&#769;мак е&#776;", "за\u{301}мак ё"),
            ("<b>Тлусты</b> і <I>нахілены</I> тэкст", "Тлусты і нахілены тэкст"),
            ("<p align=\"center\">Абзац</p>", "Абзац"),
            ("Першы<br>другі<br/>\nтрэці<BR />", "Першы\nдругі\nтрэці"),
            ("| a<br>b | c |", "| a b | c |"),
            ("## Загаловак <a name=\"x\"></a>", "## Загаловак "),
            ("доўга<wbr>слова", "доўгаслова"),
            ("`&nbsp;` — гэта&nbsp;прабел", "`&nbsp;` — гэта\u{a0}прабел"),
        ],
    );
}

#[test]
fn what_speaks_of_html_stays() {
    for text in [
        "&amp;lt; is how to write &amp;amp;",
        "&lt;b&gt;тлусты&lt;/b&gt; — гэта тэг",
        "Сущность «&nbsp;» — это не пробел, trim('&nbsp;') её не удаляет, и (&copy;) тоже.",
        "Разделитель &amp;, а не &",
        "a < b, напісанае як a &lt; b",
        "Тэгі <b> і </b> робяць тэкст тлустым, а <br> ламае радок",
        "# <p>: Елемент абзацу",
        "<li><b>Пункт</b>&nbsp;1</li>",
        "<div>&nbsp;</div>",
        "H<sub>2</sub>O, 10<sup>6</sup>",
        "List<String> і Vec<u8>, if a<b && c>d",
        "https://example.org/?a=1&copy=2&lt=3",
        "AT&T; R&D; &невядома; &nosuchname; &#xD800; &#0; &#99999999;",
        "<https://example.org/b> <user@example.org>",
        "```html\n<b>&nbsp;</b>\n```",
        "~~~\n&nbsp;\n~~~",
        "тэкст\n\n    echo '&nbsp;'; // <b>code</b>\n\nтэкст",
        "Напішыце `<b>` і ``&amp; ` &nbsp;`` тут",
        "<pre>\n&nbsp;<b>x</b>\n</pre>",
        "&#96;&#96;&#96;",
        "```\nunclosed &nbsp;\n\n<b>x</b>",
    ] {
        assert_kept(text, Language::Ru);
    }
    assert_kept("return '&nbsp;' + \"<b>x</b>\";", Language::Code);
}

#[test]
fn foreign_look_alikes_in_words_are_mended() {
    let rules = Rules {
        homoglyphs: true,
        ..Rules::NONE
    };
    assert_mends(
        rules,
        Language::Uk,
        &[
            ("Рідна мoва, піcня і кpaїна", "Рідна мова, пісня і країна"),
            (
                "Пiдiйшов до вiкна. Iде дощ, Cонце зайшло",
                "Підійшов до вікна. Іде дощ, Сонце зайшло",
            ),
            ("Украïна і Кëльн", "Україна і Кёльн"),
            (
                "Бaтько i мати, ще й дiд i баба.",
                "Батько і мати, ще й дід і баба.",
            ),
            (
                "I ти пiшов. — I він. Тома I тут",
                "І ти пішов. — І він. Тома I тут",
            ),
            ("пiв-Европи, об'їздiв", "пів-Европи, об'їздів"),
            ("у XVІІ столітті, ХIV і ХХІV", "у XVII столітті, XIV і XXIV"),
            ("Сlient і саllback", "Client і callback"),
            ("всi їx бачили, а iх нема", "всі їх бачили, а іх нема"),
        ],
    );
    assert_mends(
        rules,
        Language::Ru,
        &[
            ("Hо вoт и cказке кoнец", "Но вот и сказке конец"),
            ("ЧEЛОВЕК, ХIХ век", "ЧЕЛОВЕК, XIX век"),
            ("чтó это", "что\u{301} это"),
            ("молокó", "молоко\u{301}"),
            (
                "*cлoво*, «cлово», (cлово); _cлово_",
                "*слово*, «слово», (слово); _слово_",
            ),
        ],
    );
    assert_mends(rules, Language::En, &[("pаypal and Нello", "paypal and Hello")]);
}

#[test]
fn what_mixes_scripts_on_purpose_stays() {
    for text in [
        "з новым iPhone'ом і iPhone’ам, Windowsом, Pythonу, Wi-Fiем",
        "3D-друк, IT-компанія, ITшник, PCшник, IPшка, USBшный, copyпаст",
        "XIX стагоддзе, XXI-га, Iго, Xй, ІХ, XІ",
        "www.пoшта.by, https://example.org/мoва, тэст@пoшта.by",
        "C:\\Тэкcт\\нoвы, ./шлях/дo.txt, \\cСтрока, \\nЭкз",
        "пераменная_x, xКаардыната, getСума, сPython, 1Cпрадпрыемства, $сумa, #тэмa, @нiк",
        "2xу + а=b, sin(aх)",
        "шыринаxвышыня",
        "`мoва` і ``cлово``",
        "```\nмoва = 'cлово'\n```",
        "в Javaе и на iOSе",
        "значэнне i, дзе i = 1, і ўсё",
    ] {
        for language in [Language::Be, Language::Ru, Language::Uk] {
            assert_kept(text, language);
        }
    }
    assert_kept("мoва = 'cлово'", Language::Code);
    assert_kept("Нехай i та j цілі числа", Language::Uk);
    assert_kept("Коли i пес, і кіт", Language::Uk);
    assert_kept("кот i пёс", Language::Ru);
    assert_kept("I стагоддзе было даўно", Language::Be);
}

#[test]
fn repeated_lines_are_cut_down() {
    let rules = Rules {
        repeated_lines: true,
        ..Rules::NONE
    };
    let menu = "Галоўная старонка, навіны, аб'явы, кантакты рэдакцыі, мапа сайта";
    let page = |number: usize| format!("{menu}\n\nСтаронка {number} кажа сваё.\n\n");
    let site: String = (0..12).map(page).collect();
    let rest: String = (1..12)
        .map(|number| format!("\nСтаронка {number} кажа сваё.\n"))
        .collect();
    assert_mends(
        rules,
        Language::Be,
        &[
            ("а\n\n\n\n \n\nб\n\n\nв", "а\n\n\nб\n\n\nв"),
            ("пачатак\n\n\n\n\n", "пачатак\n\n\n"),
            (&"Чытаць далей тут\n".repeat(5), "Чытаць далей тут\n"),
            (&"Чытаць далей тут\n\n".repeat(4), "Чытаць далей тут\n\n"),
            (&site, &format!("{menu}\n\nСтаронка 0 кажа сваё.\n{rest}\n")),
        ],
    );
    let (_, report) = clean_with(rules, &site, Language::Be);
    assert_eq!(report.rule(Rule::RepeatedLines).occurrences, 11);
}

#[test]
fn refrains_tables_lists_and_code_keep_their_lines() {
    let refrain = "Люлі-люлі, люлі-люлі, засыпай, маё дзіцятка міла, да самае раніцы\n";
    let verse = |number: usize| format!("{refrain}{refrain}Радок {number}\n\n");
    let song: String = (0..4).map(verse).collect();
    assert_kept(&song, Language::Be);
    assert_kept(&"Ой, люлі, люлі\n".repeat(3), Language::Be);
    assert_kept(&"Да\n".repeat(12), Language::Ru);
    assert_kept(&"* * *\n".repeat(6), Language::Ru);
    assert_kept(
        &"| адна доўгая клетка табліцы | другая доўгая клетка табліцы |\n".repeat(12),
        Language::Be,
    );
    let item = |number: usize| {
        format!("- аднолькавы доўгі пункт спісу, які штораз значыць нешта сваё\n\n{number}\n\n")
    };
    assert_kept(&(0..12).map(item).collect::<String>(), Language::Be);
    let example = |number: usize| {
        format!("Наступны прыклад паказвае, як усё гэта зрабіць самому, без дапамогі:\n\n{number}\n\n")
    };
    assert_kept(&(0..12).map(example).collect::<String>(), Language::Be);
    let block = format!("```\n{}\n\n\n\n\n```", "    counter = counter + 1\n".repeat(6));
    assert_kept(&block, Language::Uk);
    assert_kept(&"print('Прывітанне, свет!')\n".repeat(9), Language::Code);
}

#[test]
fn one_apostrophe_is_chosen() {
    let typed = "п'ять м’яч сімʼя об‘єкт в′язень; don't, 'слово', д'Artagnan, `а'б`";
    let with = |apostrophe: &str| {
        format!(
            "п{0}ять м{0}яч сім{0}я об{0}єкт в{0}язень; don't, 'слово', д'Artagnan, `а'б`",
            apostrophe
        )
    };
    for (apostrophes, expected) in [
        (Apostrophe::Keep, typed.to_owned()),
        (Apostrophe::U0027, with("'")),
        (Apostrophe::U2019, with("\u{2019}")),
        (Apostrophe::U02BC, with("\u{2bc}")),
    ] {
        let rules = Rules {
            apostrophes,
            ..Rules::NONE
        };
        assert_eq!(clean_with(rules, typed, Language::Uk).0, Some(expected));
        assert_eq!(Apostrophe::from_name(apostrophes.name()), Some(apostrophes));
    }
}

#[test]
fn short_documents_are_dropped_and_counted() {
    let rules = Rules {
        min_chars: 5,
        ..Rules::default()
    };
    assert_eq!(clean_with(rules, " а б\nв г\u{ad} ", Language::Be).0, None);
    assert_eq!(
        clean_with(rules, " а б\nв г\u{ad} ґ", Language::Be).0.as_deref(),
        Some(" а б\nв г ґ")
    );
    let (_, report) = clean_with(rules, " а б ", Language::Be);
    assert_eq!(
        (report.documents, report.bytes_before, report.bytes_after),
        (1, 7, 0)
    );
    assert_eq!(report.rule(Rule::Short).documents, 1);
}

#[test]
fn clean_text_is_not_copied() {
    let text = "Звычайны тэкст — «без памылак».\n\nI heard: “Hello”. Кам’янець.\n";
    let mut report = CleanReport::default();
    let clean = Cleaner::new(Rules::default()).clean(text, Language::Be, &mut report);
    assert!(matches!(clean, Some(Cow::Borrowed(same)) if std::ptr::eq(same, text)));
}

#[test]
fn no_rule_acts_when_all_are_off() {
    let text = "а\r\u{200b}\u{ad}&nbsp;<b>мoва</b>\n\n\n\n\nп'ять";
    assert_eq!(
        clean_with(Rules::NONE, text, Language::Uk).0.as_deref(),
        Some(text)
    );
}

#[test]
fn hostile_nesting_costs_no_more_than_its_length() {
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(40_000), close.repeat(40_000));
    for text in [
        nested("&am", "p;"),
        nested("&s", "&shy;hy;"),
        nested("<b", ">"),
        nested("<b>", "</b>"),
        nested("<b>x", "</i>"),
        (1..600).map(|length| "`".repeat(length) + " ").collect(),
        "мoва ".repeat(40_000),
        "мoв".repeat(40_000),
        "\u{301}".repeat(100_000),
        "i а ".repeat(40_000),
        format!("мiр {}", "i а ".repeat(40_000)),
        "a_мoва_".repeat(40_000),
    ] {
        let once = clean(&text, Language::Uk);
        assert_eq!(clean(&once, Language::Uk), once);
    }
}

proptest! {
    #[test]
    fn reports_of_parts_merge_in_any_order(
        texts in prop::collection::vec(hostile_text(), 0..30),
        cuts in prop::array::uniform2(0..30usize),
    ) {
        let report_of = |texts: &[String]| {
            let mut report = CleanReport::default();
            let cleaner = Cleaner::new(Rules { min_chars: 3, ..Rules::default() });
            for text in texts {
                cleaner.clean(text, Language::Be, &mut report);
            }
            report
        };
        let [a, b] = cuts.map(|cut| cut.min(texts.len()));
        let (first, second) = (a.min(b), a.max(b));
        let parts = [&texts[..first], &texts[first..second], &texts[second..]].map(report_of);
        let whole = report_of(&texts);
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut left = CleanReport::default();
            for part in order {
                left.merge(parts[part].clone());
            }
            prop_assert_eq!(&left, &whole);
            let mut right = parts[order[1]].clone();
            right.merge(parts[order[2]].clone());
            let mut all = parts[order[0]].clone();
            all.merge(right);
            prop_assert_eq!(&all, &whole);
        }
        for rule in Rule::ALL {
            let counts = whole.rule(rule);
            prop_assert!(counts.samples().len() <= RuleReport::MAX_SAMPLES);
            prop_assert_eq!(counts.samples().is_empty(), counts.documents == 0);
        }
    }
}
