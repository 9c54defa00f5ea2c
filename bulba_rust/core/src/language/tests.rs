use super::*;
use proptest::prelude::*;

fn assert_all(language: Language, texts: &[&str]) {
    for text in texts {
        assert_eq!(detect(text), language, "{text}");
    }
}

#[test]
fn single_sentences() {
    assert_all(
        Language::Be,
        &[
            "Прывітанне, свет! Як маешся?",
            "Ён пайшоў у лес, а ўзімку вярнуўся ў горад да бацькі.",
            "Сьнег ляжыць на палёх, а песьня ляціць па-над сьветам і зьвініць.",
            "Сёньня ў менскай школе адбыўся канцэрт беларускай клясычнай музыкі.",
        ],
    );
    assert_all(
        Language::Ru,
        &[
            "Съешь же ещё этих мягких французских булок, да выпей чаю.",
            "Он сказал, что завтра не придет, потому что занят на работе.",
            "Благодарю вас за внимание к этому вопросу и жду скорого ответа.",
        ],
    );
    assert_all(
        Language::Uk,
        &[
            "Щебетали пташки, а ґава їла яблуко під вишнею.",
            "Він сказав, що завтра не прийде, бо працює до ночі.",
            "Мати стояла біля вікна та дивилася на дорогу, де нікого не було.",
        ],
    );
    assert_all(
        Language::En,
        &[
            "The quick brown fox jumps over the lazy dog.",
            "If you want to use this class, import it from the main module.",
            "She had been there before, and nobody knew why.",
        ],
    );
}

#[test]
fn other_languages() {
    assert_all(
        Language::Other,
        &[
            "Той каза, че утре няма да дойде, защото е зает в работата си.",
            "Тој рече дека утре нема да дојде, бидејќи е зафатен на работа.",
            "Рекао је да сутра неће доћи, јер је заузет на послу цео дан.",
            "Ол ертең келмейтінін айтты, өйткені жұмыста бос емес.",
            "Powiedział, że jutro nie przyjdzie, bo jest zajęty w pracy.",
            "Er sagte, dass er morgen nicht kommt, weil er arbeiten muss.",
            "Il a dit qu'il ne viendrait pas demain, car il est occupé.",
            "Dijo que mañana no vendría porque está ocupado en el trabajo.",
            "Řekl, že zítra nepřijde, protože je zaneprázdněn v práci.",
            "彼は明日来ないと言った。仕事で忙しいからだ。",
            "Είπε ότι αύριο δεν θα έρθει, γιατί είναι απασχολημένος.",
            "",
            " \n\t",
            "12345 67.89",
        ],
    );
}

#[test]
fn code_is_code_whatever_its_comments_say() {
    assert_all(
        Language::Code,
        &[
            "for (int i = 0; i < n; ++i) { a[i] += b[i]; }",
            "SELECT name, age FROM people WHERE age >= 18 AND city = 'Менск';",
            "print('Прывітанне, свет!')",
            "import os\nimport sys\n\n\ndef main(path: str) -> int:\n    return os.stat(path).st_size\n",
            "# Гэта функцыя лічыць літары ў тэксце, які ёй далі,\n# і вяртае іх колькасць.\n\
             def count(text):\n    total = 0\n    for letter in text:\n        total += 1  # яшчэ адна\n    return total\n",
            "\"\"\"Модуль з доўгім апісаннем.\n\nТут шмат слоў пра тое, што ён робіць і навошта.\n\
             Яшчэ адзін радок апісання, зусім без кода.\n\"\"\"\n\nimport re\n\nWORD = re.compile(r'\\w+')\n",
            "body {\n  color: red;\n  margin: 0 auto;\n}\n",
            "<ul>\n  <li class=\"first\">Першы</li>\n  <li>Другі</li>\n</ul>\n",
            "#include <stdio.h>\n\nint main(void) {\n  printf(\"%d\\n\", 42);\n  return 0;\n}\n",
            "/*\n Copyright notice that goes on and on,\n and says much more than the code below it.\n*/\n\
             #pragma once\nint answer(void);\n",
            "```python\nx = 1\nprint(x)\n```\n",
        ],
    );
}

#[test]
fn the_prose_of_a_document_decides() {
    let code = "```js\nconst answer = await fetch(url);\nif (!answer.ok) {\n  throw new Error(answer.status);\n}\n```\n";
    let be =
        format!("# Загаловак\n\nГэты прыклад паказвае, як працуе `fetch`:\n\n{code}\nГатова.\n\n{code}\n");
    let en = format!(
        "# Title\n\nThis example shows how `fetch` works with us:\n\n{code}\nThat is all.\n\n{code}\n"
    );
    let quote = "Ён сказаў па-англійску: «To be, or not to be, that is the question», і ўсе засмяяліся.";
    assert_eq!(detect(&be), Language::Be);
    assert_eq!(detect(&en), Language::En);
    assert_eq!(detect(quote), Language::Be);
    assert_eq!(
        detect(
            "# tar\n\n> Архиватор.\n\n- Создать архив из файлов:\n\n`tar cf {{archive.tar}} {{file1 file2}}`\n"
        ),
        Language::Ru
    );
}

#[test]
fn a_long_text_is_judged_by_all_its_parts() {
    let title = "Introduction by the editor of the English edition, with notes. ".repeat(40);
    let sentence = "Ён ішоў полем і думаў пра тое, што будзе заўтра, калі скончыцца дождж.\n";
    let novel = sentence.repeat(4000);
    assert_eq!(detect(&format!("{title}\n{novel}")), Language::Be);
    let listing = "let value = compute(index);\nprintln!(\"{value}\");\n".repeat(2000);
    let guide = format!(
        "Кіраўніцтва па мове, з вялікім прыкладам.\n\n```rust\n{listing}```\n\n{}",
        sentence.repeat(20)
    );
    assert_eq!(detect(&guide), Language::Be);
    assert_eq!(detect(&listing), Language::Code);
}

#[test]
fn names_are_read_back() {
    for language in Language::ALL {
        assert_eq!(Language::from_name(language.name()), Some(language));
    }
    assert_eq!(Language::from_name("by"), None);
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "(?s).{0,200}", times in 1..400usize) {
        detect(&text.repeat(times));
    }

    #[test]
    fn every_sample_is_text_of_the_document(text in "(\\PC|\n){1000,3000}") {
        let text = text.repeat(1 + MAX_READ_BYTES / text.len().max(1));
        for sample in samples(&text) {
            prop_assert!(text.get(sample).is_some());
        }
    }
}

#[test]
fn letters_are_those_of_the_standard_library() {
    for c in '\0'..=char::MAX {
        assert_eq!(is_alphabetic(c), c.is_alphabetic(), "{c:?}");
    }
}
