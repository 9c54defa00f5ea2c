"""The model card in four languages: for every language a title, and sections of lines with places for figures.

A line whose figure the run does not have is left out, and so is a section without lines. All languages have the same
sections, and lines with the same figures in them.
"""

TITLES = {"be": "Беларуская", "ru": "Русский", "uk": "Українська", "en": "English"}
Section = tuple[str, list[str]]
TEXTS: dict[str, dict[str, Section]] = {
    "be": {
        "model": (
            "Мадэль",
            [
                "- Моўная мадэль, навучаная праграмай Bulba. {kind}",
                "- Вагі: {num_params}, з іх без эмбедынгаў {num_params_non_embedding}; файл {weights_bytes} байтаў ({dtype}).",
                "- Слаёў: {num_layers}, шырыня {hidden_size}, увага: {attention}.",
                "- Кантэкст: {max_seq_len} токенаў.",
            ],
        ),
        "data": (
            "Даныя",
            [
                "- Крыніцы: {sources}.",
                "- Для навучання: токенаў {train_tokens}, дакументаў {train_documents}.",
                "- Тэкст для навучання: {train_text_bytes} байтаў UTF-8 пасля ачысткі.",
                "- Па мовах, у байтах: {language_bytes}.",
                "- Для праверкі (у навучанні не было): токенаў {val_tokens}, дакументаў {val_documents}.",
            ],
        ),
        "training": ("Навучанне", ["- Крокаў: {step}.", "- Прачытана токенаў (з паўторамі): {seen_tokens}."]),
        "results": (
            "Вынікі",
            [
                "- Праверачны тэкст: {val_bpb} біта на байт.",
                "- Страты на праверцы: {val_loss} ната на токен.",
                "- Страты ў навучанні на гэтым кроку: {train_loss} ната на токен.",
                "- Прыклад: «{sample}»",
            ],
        ),
        "tokenizer": (
            "Токенізатар",
            [
                "- BPE на байтах, токенаў: {vocab_size}; пачатак тэксту `{bos}`, канец `{eos}`.",
                "- Тэкст павінен быць у форме NFC. tokenizer.json прыводзіць да яе сам, llama.cpp і LM Studio – не: там нармалізуйце запыт самі.",
                "- Апострафы: {apostrophes_be}",
            ],
        ),
        "limits": (
            "Абмежаванні",
            [
                "- Мадэль малая: яна выдумляе факты, блытаецца ў доўгім тэксце і паўтарае памылкі сваіх даных.",
                "- Яна не правяралася на бяспечнасць адказаў; не давайце ёй вырашаць за людзей.",
                "- Іншых моў, апрача моў яе даных, яна не ведае.",
            ],
        ),
        "use": ("Як карыстацца", ["{code}", "{demands_be}"]),
        "license": ("Ліцэнзія", ["- {license_be}"]),
    },
    "ru": {
        "model": (
            "Модель",
            [
                "- Языковая модель, обученная программой Bulba. {kind}",
                "- Веса: {num_params}, из них без эмбеддингов {num_params_non_embedding}; файл {weights_bytes} байт ({dtype}).",
                "- Слоёв: {num_layers}, ширина {hidden_size}, внимание: {attention}.",
                "- Контекст: {max_seq_len} токенов.",
            ],
        ),
        "data": (
            "Данные",
            [
                "- Источники: {sources}.",
                "- Для обучения: токенов {train_tokens}, документов {train_documents}.",
                "- Текст для обучения: {train_text_bytes} байт UTF-8 после очистки.",
                "- По языкам, в байтах: {language_bytes}.",
                "- Для проверки (в обучении не было): токенов {val_tokens}, документов {val_documents}.",
            ],
        ),
        "training": ("Обучение", ["- Шагов: {step}.", "- Прочитано токенов (с повторами): {seen_tokens}."]),
        "results": (
            "Результаты",
            [
                "- Проверочный текст: {val_bpb} бита на байт.",
                "- Потери на проверке: {val_loss} ната на токен.",
                "- Потери в обучении на этом шаге: {train_loss} ната на токен.",
                "- Пример: «{sample}»",
            ],
        ),
        "tokenizer": (
            "Токенизатор",
            [
                "- BPE на байтах, токенов: {vocab_size}; начало текста `{bos}`, конец `{eos}`.",
                "- Текст должен быть в форме NFC. tokenizer.json приводит к ней сам, llama.cpp и LM Studio – нет: там нормализуйте запрос сами.",
                "- Апострофы: {apostrophes_ru}",
            ],
        ),
        "limits": (
            "Ограничения",
            [
                "- Модель мала: она выдумывает факты, путается в длинном тексте и повторяет ошибки своих данных.",
                "- Она не проверялась на безопасность ответов; не давайте ей решать за людей.",
                "- Других языков, кроме языков её данных, она не знает.",
            ],
        ),
        "use": ("Как пользоваться", ["{code}", "{demands_ru}"]),
        "license": ("Лицензия", ["- {license_ru}"]),
    },
    "uk": {
        "model": (
            "Модель",
            [
                "- Мовна модель, навчена програмою Bulba. {kind}",
                "- Ваги: {num_params}, з них без ембедингів {num_params_non_embedding}; файл {weights_bytes} байтів ({dtype}).",
                "- Шарів: {num_layers}, ширина {hidden_size}, увага: {attention}.",
                "- Контекст: {max_seq_len} токенів.",
            ],
        ),
        "data": (
            "Дані",
            [
                "- Джерела: {sources}.",
                "- Для навчання: токенів {train_tokens}, документів {train_documents}.",
                "- Текст для навчання: {train_text_bytes} байтів UTF-8 після очищення.",
                "- За мовами, у байтах: {language_bytes}.",
                "- Для перевірки (у навчанні не було): токенів {val_tokens}, документів {val_documents}.",
            ],
        ),
        "training": ("Навчання", ["- Кроків: {step}.", "- Прочитано токенів (з повторами): {seen_tokens}."]),
        "results": (
            "Результати",
            [
                "- Перевірочний текст: {val_bpb} біта на байт.",
                "- Втрати на перевірці: {val_loss} ната на токен.",
                "- Втрати в навчанні на цьому кроці: {train_loss} ната на токен.",
                "- Приклад: «{sample}»",
            ],
        ),
        "tokenizer": (
            "Токенізатор",
            [
                "- BPE на байтах, токенів: {vocab_size}; початок тексту `{bos}`, кінець `{eos}`.",
                "- Текст має бути у формі NFC. tokenizer.json зводить до неї сам, llama.cpp і LM Studio – ні: там нормалізуйте запит самі.",
                "- Апострофи: {apostrophes_uk}",
            ],
        ),
        "limits": (
            "Обмеження",
            [
                "- Модель мала: вона вигадує факти, плутається в довгому тексті й повторює помилки своїх даних.",
                "- Її не перевіряли на безпечність відповідей; не давайте їй вирішувати за людей.",
                "- Інших мов, крім мов її даних, вона не знає.",
            ],
        ),
        "use": ("Як користуватися", ["{code}", "{demands_uk}"]),
        "license": ("Ліцензія", ["- {license_uk}"]),
    },
    "en": {
        "model": (
            "The model",
            [
                "- A language model trained with Bulba. {kind}",
                "- Weights: {num_params}, without embeddings {num_params_non_embedding}; a file of {weights_bytes} bytes ({dtype}).",
                "- Layers: {num_layers}, width {hidden_size}, attention: {attention}.",
                "- Context: {max_seq_len} tokens.",
            ],
        ),
        "data": (
            "Data",
            [
                "- Sources: {sources}.",
                "- For training: {train_tokens} tokens, {train_documents} documents.",
                "- Text for training: {train_text_bytes} bytes of UTF-8 after cleaning.",
                "- By language, in bytes: {language_bytes}.",
                "- For validation (never trained on): {val_tokens} tokens, {val_documents} documents.",
            ],
        ),
        "training": ("Training", ["- Steps: {step}.", "- Tokens read (repeats included): {seen_tokens}."]),
        "results": (
            "Results",
            [
                "- Validation text: {val_bpb} bits per byte.",
                "- Validation loss: {val_loss} nats per token.",
                "- Training loss at this step: {train_loss} nats per token.",
                "- A sample: “{sample}”",
            ],
        ),
        "tokenizer": (
            "Tokenizer",
            [
                "- Byte-level BPE of {vocab_size} tokens; `{bos}` opens a text, `{eos}` ends it.",
                "- Text has to be in NFC. tokenizer.json puts it so by itself, llama.cpp and LM Studio do not: normalise prompts there.",
                "- Apostrophes: {apostrophes_en}",
            ],
        ),
        "limits": (
            "Limits",
            [
                "- The model is small: it invents facts, loses its way in long texts and repeats the mistakes of its data.",
                "- What it answers was not tested for safety; do not let it decide for people.",
                "- It knows no languages but those of its data.",
            ],
        ),
        "use": ("How to use it", ["{code}", "{demands_en}"]),
        "license": ("Licence", ["- {license_en}"]),
    },
}
# {mark}: the apostrophe that data.cleaning.apostrophes made of all.
APOSTROPHES = {
    "be": {
        "keep": "у даных пакінуты такімі, якія былі; ' (U+0027), ’ (U+2019) і ʼ (U+02BC) – розныя токены.",
        "one": "у даных усе зведзены да {mark}; пішыце так і ў запытах.",
    },
    "ru": {
        "keep": "в данных оставлены такими, какими были; ' (U+0027), ’ (U+2019) и ʼ (U+02BC) – разные токены.",
        "one": "в данных все сведены к {mark}; пишите так и в запросах.",
    },
    "uk": {
        "keep": "у даних залишено такими, якими були; ' (U+0027), ’ (U+2019) і ʼ (U+02BC) – різні токени.",
        "one": "у даних усі зведено до {mark}; пишіть так і в запитах.",
    },
    "en": {
        "keep": "left in the data as they were; ' (U+0027), ’ (U+2019) and ʼ (U+02BC) are different tokens.",
        "one": "all made {mark} in the data; write prompts so too.",
    },
}
KINDS = {
    "be": {
        "base": "Яна працягвае тэкст; шаблону размовы ў ёй няма.",
        "template": "Яна працягвае тэкст і размаўляць не вучылася; токены размовы ў токенізатары ёсць, і шаблон пакладзены побач для данавучання.",
        "chat": "Яна вучылася размове; шаблон – chat_template.jinja.",
    },
    "ru": {
        "base": "Она продолжает текст; шаблона разговора в ней нет.",
        "template": "Она продолжает текст и разговору не училась; токены разговора в токенизаторе есть, и шаблон положен рядом для дообучения.",
        "chat": "Она училась разговору; шаблон – chat_template.jinja.",
    },
    "uk": {
        "base": "Вона продовжує текст; шаблону розмови в ній немає.",
        "template": "Вона продовжує текст і розмови не вчилася; токени розмови в токенізаторі є, і шаблон покладено поруч для донавчання.",
        "chat": "Вона вчилася розмови; шаблон – chat_template.jinja.",
    },
    "en": {
        "base": "It continues texts and has no chat template.",
        "template": "It continues texts and was not trained to chat; its tokenizer has the tokens of a chat, and a template lies here for fine-tuning.",
        "chat": "It was trained to chat; its template is chat_template.jinja.",
    },
}
# Of a folder with its own code.
DEMANDS = {
    "be": "- Код мадэлі ляжыць у гэтай тэчцы; патрэбны torch 2.11 ці навейшы. {cache}",
    "ru": "- Код модели лежит в этой папке; нужен torch 2.11 или новее. {cache}",
    "uk": "- Код моделі лежить у цій теці; потрібен torch 2.11 або новіший. {cache}",
    "en": "- The code of the model lies in this folder; it needs torch 2.11 or newer. {cache}",
}
CACHE = {
    "be": {
        True: "Радкі з дапаўненнем (padding) генеруйце з use_cache=False.",
        False: "Кэша пры генерацыі няма: кожны токен лічыцца нанава (use_cache=False).",
    },
    "ru": {
        True: "Строки с дополнением (padding) генерируйте с use_cache=False.",
        False: "Кэша при генерации нет: каждый токен считается заново (use_cache=False).",
    },
    "uk": {
        True: "Рядки з доповненням (padding) генеруйте з use_cache=False.",
        False: "Кешу при генерації немає: кожен токен обчислюється заново (use_cache=False).",
    },
    "en": {
        True: "Generate padded rows with use_cache=False.",
        False: "It generates without a cache: everything is computed again for each token (use_cache=False).",
    },
}
LICENSE = {
    "be": {True: "{license}", False: "Аўтар мадэлі ліцэнзіі не ўказаў."},
    "ru": {True: "{license}", False: "Автор модели лицензии не указал."},
    "uk": {True: "{license}", False: "Автор моделі ліцензії не вказав."},
    "en": {True: "{license}", False: "The author of the model named no licence."},
}
