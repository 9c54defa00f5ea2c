"""The help texts of `python -m bulba` in English, Belarusian, Ukrainian and Russian."""

from __future__ import annotations

import os

LANGUAGES = ("en", "be", "uk", "ru")

TEXTS: dict[str, dict[str, str]] = {
    "app": {
        "en": "Small language models for Belarusian, Russian and Ukrainian. Help in another language: BULBA_LANG=be, uk, ru, en.",
        "be": "Невялікія моўныя мадэлі для беларускай, рускай і ўкраінскай моў. Даведка на іншай мове: BULBA_LANG=be, uk, ru, en.",
        "uk": "Невеликі мовні моделі для білоруської, російської й української мов. Довідка іншою мовою: BULBA_LANG=be, uk, ru, en.",
        "ru": "Небольшие языковые модели для белорусского, русского и украинского языков. Справка на другом языке: BULBA_LANG=be, uk, ru, en.",
    },
    "generate": {
        "en": 'Write text with a trained model: generate run=last prompt="..."',
        "be": 'Напісаць тэкст навучанай мадэллю: generate run=last prompt="..."',
        "uk": 'Написати текст навченою моделлю: generate run=last prompt="..."',
        "ru": 'Написать текст обученной моделью: generate run=last prompt="..."',
    },
    "prepare": {
        "en": "Read, clean and tokenize texts ahead of training, and report every file: prepare data.path=FOLDER",
        "be": "Загадзя прачытаць, ачысціць і разбіць тэксты на токены, са справаздачай пра кожны файл: prepare data.path=ТЭЧКА",
        "uk": "Заздалегідь прочитати, очистити й розбити тексти на токени, зі звітом про кожен файл: prepare data.path=ТЕКА",
        "ru": "Заранее прочитать, очистить и разбить тексты на токены, с отчётом о каждом файле: prepare data.path=ПАПКА",
    },
    "ready": {
        "en": "What a training with these settings still lacks, and how to mend it: ready data.path=FOLDER",
        "be": "Чаго яшчэ не хапае навучанню з такімі наладамі і як гэта выправіць: ready data.path=ТЭЧКА",
        "uk": "Чого ще бракує навчанню з такими налаштуваннями і як це виправити: ready data.path=ТЕКА",
        "ru": "Чего ещё не хватает обучению с такими настройками и как это исправить: ready data.path=ПАПКА",
    },
    "data": {
        "en": "What a run learns from.",
        "be": "На чым вучыцца запуск.",
        "uk": "На чому вчиться запуск.",
        "ru": "На чём учится запуск.",
    },
    "data-show": {
        "en": "The documents that a step of a run reads, with their files and text: data show run=last step=100",
        "be": "Дакументы, якія чытае крок запуску, з іх файламі і тэкстам: data show run=last step=100",
        "uk": "Документи, які читає крок запуску, з їхніми файлами й текстом: data show run=last step=100",
        "ru": "Документы, которые читает шаг запуска, с их файлами и текстом: data show run=last step=100",
    },
    "data-parquet": {
        "en": "Any readable texts as Parquet shards with a column text, the last one for validation: data parquet path=FOLDER out=FOLDER",
        "be": "Любыя тэксты, якія чытаюцца, у частках Parquet са слупком text, апошняя для праверкі: data parquet path=ТЭЧКА out=ТЭЧКА",
        "uk": "Будь-які читані тексти у частинах Parquet зі стовпцем text, остання для перевірки: data parquet path=ТЕКА out=ТЕКА",
        "ru": "Любые читаемые тексты в частях Parquet со столбцом text, последняя для проверки: data parquet path=ПАПКА out=ПАПКА",
    },
    "compare": {
        "en": "A table of runs: what differs in their settings, and how they came out.",
        "be": "Табліца запускаў: чым адрозніваюцца налады і што атрымалася.",
        "uk": "Таблиця запусків: чим різняться налаштування і що вийшло.",
        "ru": "Таблица запусков: чем различаются настройки и что получилось.",
    },
    "info": {
        "en": "Exact weights of the presets: info, or info model=zubr tokenizer=bpe_32k",
        "be": "Дакладная колькасць вагаў: info або info model=zubr tokenizer=bpe_32k",
        "uk": "Точна кількість ваг: info або info model=zubr tokenizer=bpe_32k",
        "ru": "Точное число весов: info или info model=zubr tokenizer=bpe_32k",
    },
    "load": {
        "en": "Rebuild the model of a run or a checkpoint from its own files and describe it: load run=last",
        "be": "Аднавіць мадэль запуску або кантрольнай кропкі з яе файлаў і апісаць: load run=last",
        "uk": "Відновити модель запуску або контрольної точки з її файлів і описати: load run=last",
        "ru": "Восстановить модель запуска или контрольной точки из её файлов и описать: load run=last",
    },
    "utility": {
        "en": "What each attention is good for: recall, forgetting, length, noise, memory: utility attentions=[standard] seeds=3",
        "be": "На што здатная кожная ўвага: успамін, забыванне, даўжыня, шум, памяць: utility attentions=[standard] seeds=3",
        "uk": "На що здатна кожна увага: пригадування, забування, довжина, шум, пам'ять: utility attentions=[standard] seeds=3",
        "ru": "На что способно каждое внимание: вспоминание, забывание, длина, шум, память: utility attentions=[standard] seeds=3",
    },
    "verify-resume": {
        "en": "Train, kill with -9 at random steps, resume, and compare every loss with an uninterrupted run.",
        "be": "Навучаць, забіваць -9 на выпадковых кроках, працягваць і параўноўваць кожную страту з неперарваным запускам.",
        "uk": "Навчати, вбивати -9 на випадкових кроках, продовжувати й порівнювати кожну втрату з безперервним запуском.",
        "ru": "Обучать, убивать -9 на случайных шагах, продолжать и сравнивать каждую потерю с непрерывным запуском.",
    },
    "replay": {
        "en": "Compute a step of a run again, row by row, with the documents it read: replay run=last step=57",
        "be": "Вылічыць крок запуску яшчэ раз, радок за радком, з дакументамі, якія ён чытаў: replay run=last step=57",
        "uk": "Обчислити крок запуску ще раз, рядок за рядком, з документами, які він читав: replay run=last step=57",
        "ru": "Вычислить шаг запуска ещё раз, строка за строкой, с документами, которые он читал: replay run=last step=57",
    },
    "plan": {
        "en": "What a run will take (memory, work, time) before it starts; the words of train.py, and calibrate=false",
        "be": "Што спатрэбіцца запуску (памяць, праца, час), перш чым ён пачнецца; словы train.py і calibrate=false",
        "uk": "Що потрібно запуску (пам'ять, робота, час), перш ніж він почнеться; слова train.py і calibrate=false",
        "ru": "Что потребуется запуску (память, работа, время), прежде чем он начнётся; слова train.py и calibrate=false",
    },
    "doctor": {
        "en": "What went wrong in a finished run, and what to change: doctor run=RUN",
        "be": "Што пайшло не так у скончаным запуску і што змяніць: doctor run=RUN",
        "uk": "Що пішло не так у завершеному запуску і що змінити: doctor run=RUN",
        "ru": "Что пошло не так в завершённом запуске и что изменить: doctor run=RUN",
    },
    "demo": {
        "en": 'An attention\'s theorem at work, in numbers and a picture: demo list, demo NAME, demo NAME run=last text="..."',
        "be": 'Тэарэма механізма ўвагі ў справе, лікамі і на малюнку: demo list, demo НАЗВА, demo НАЗВА run=last text="..."',
        "uk": 'Теорема механізму уваги в дії, числами й на малюнку: demo list, demo НАЗВА, demo НАЗВА run=last text="..."',
        "ru": 'Теорема механизма внимания в деле, числами и на рисунке: demo list, demo ИМЯ, demo ИМЯ run=last text="..."',
    },
    "bench": {
        "en": "Measurements of a finished run.",
        "be": "Вымярэнні скончанага запуску.",
        "uk": "Вимірювання завершеного запуску.",
        "ru": "Измерения завершённого запуска.",
    },
    "bench-train": {
        "en": "Speed of every mode, of a bare loop and of the Trainer of transformers: bench train model=aist seq_len=1024",
        "be": "Хуткасць кожнага рэжыму, голага цыкла і Trainer з transformers: bench train model=aist seq_len=1024",
        "uk": "Швидкість кожного режиму, голого циклу й Trainer з transformers: bench train model=aist seq_len=1024",
        "ru": "Скорость каждого режима, голого цикла и Trainer из transformers: bench train model=aist seq_len=1024",
    },
    "bench-data": {
        "en": "The data engine beside the programs that people use today, on the same texts: bench data text=FOLDER",
        "be": "Рухавік даных побач з праграмамі, якімі карыстаюцца сёння, на тых самых тэкстах: bench data text=ТЭЧКА",
        "uk": "Рушій даних поруч із програмами, якими користуються сьогодні, на тих самих текстах: bench data text=ТЕКА",
        "ru": "Движок данных рядом с программами, которыми пользуются сегодня, на тех же текстах: bench data text=ПАПКА",
    },
    "bench-compile": {
        "en": "Count what torch.compile makes of each preset: graphs, graph breaks, recompiles: bench compile mode=both",
        "be": "Палічыць, што torch.compile робіць з кожнай мадэллю: графы, разрывы, паўторныя кампіляцыі: bench compile mode=both",
        "uk": "Порахувати, що torch.compile робить із кожною моделлю: графи, розриви, повторні компіляції: bench compile mode=both",
        "ru": "Сосчитать, что torch.compile делает с каждой моделью: графы, разрывы, повторные компиляции: bench compile mode=both",
    },
    "bench-attention": {
        "en": "Time, operations and memory of one layer of every attention beside the standard one: bench attention seq_len=1024",
        "be": "Час, аперацыі і памяць аднаго слоя кожнай увагі побач са звычайнай: bench attention seq_len=1024",
        "uk": "Час, операції та пам'ять одного шару кожної уваги поряд зі звичайною: bench attention seq_len=1024",
        "ru": "Время, операции и память одного слоя каждого внимания рядом с обычным: bench attention seq_len=1024",
    },
    "bench-plan": {
        "en": "Peak memory as plan predicts it beside what trainings take, in a process each.",
        "be": "Пік памяці, прадказаны планам, побач з тым, што займаюць навучанні, кожнае ў сваім працэсе.",
        "uk": "Пік пам'яті, передбачений планом, поруч із тим, що займають навчання, кожне у своєму процесі.",
        "ru": "Пик памяти по предсказанию плана рядом с тем, что занимают обучения, каждое в своём процессе.",
    },
    "bench-words": {
        "en": "Share of words in sampled sentences that occur in the training text, per language.",
        "be": "Доля слоў у напісаных сказах, якія ёсць у навучальным тэксце, для кожнай мовы.",
        "uk": "Частка слів у написаних реченнях, що є в навчальному тексті, для кожної мови.",
        "ru": "Доля слов в написанных предложениях, которые есть в обучающем тексте, для каждого языка.",
    },
    "bench-text": {
        "en": "Bits per byte of a run on its validation text, beside unigram entropy and xz -9.",
        "be": "Біты на байт на праверачным тэксце побач з уніграмнай энтрапіяй і xz -9.",
        "uk": "Біти на байт на перевірному тексті поряд з уніграмною ентропією та xz -9.",
        "ru": "Биты на байт на проверочном тексте рядом с униграммной энтропией и xz -9.",
    },
    "verify": {
        "en": "A GGUF file against a run, in llama.cpp itself, with a certificate: verify file=FILE run=RUN",
        "be": "Файл GGUF супраць запуску, у самой llama.cpp, з пасведчаннем: verify file=ФАЙЛ run=ЗАПУСК",
        "uk": "Файл GGUF проти запуску, у самій llama.cpp, із посвідченням: verify file=ФАЙЛ run=ЗАПУСК",
        "ru": "Файл GGUF против запуска, в самой llama.cpp, с удостоверением: verify file=ФАЙЛ run=ЗАПУСК",
    },
    "bench-types": {
        "en": "What every GGUF type costs a run: size, bits per weight, bits per byte of its validation text.",
        "be": "Колькі каштуе запуску кожны тып GGUF: памер, біты на вагу, біты на байт праверачнага тэксту.",
        "uk": "Чого коштує запуску кожен тип GGUF: розмір, біти на вагу, біти на байт перевірного тексту.",
        "ru": "Чего стоит запуску каждый тип GGUF: размер, биты на вес, биты на байт проверочного текста.",
    },
    "bench-int8": {
        "en": "fp32, INT8 and ONNX of a run side by side on a CPU: size, speed, bits per byte, logits.",
        "be": "fp32, INT8 і ONNX запуску побач на працэсары: памер, хуткасць, біты на байт, лагіты.",
        "uk": "fp32, INT8 і ONNX запуску поруч на процесорі: розмір, швидкість, біти на байт, логіти.",
        "ru": "fp32, INT8 и ONNX запуска рядом на процессоре: размер, скорость, биты на байт, логиты.",
    },
    "bench-converter": {
        "en": "Time and memory of the direct GGUF writer beside llama.cpp's own converter: bench converter models=[aist,zubr]",
        "be": "Час і памяць прамога запісу GGUF побач з уласным канвертарам llama.cpp: bench converter models=[aist,zubr]",
        "uk": "Час і пам'ять прямого запису GGUF поряд із власним конвертером llama.cpp: bench converter models=[aist,zubr]",
        "ru": "Время и память прямой записи GGUF рядом с собственным конвертером llama.cpp: bench converter models=[aist,zubr]",
    },
    "bench-position": {
        "en": "Loss of a run by position, up to times=4 its trained length, with RoPE as trained, linear and YaRN.",
        "be": "Страты запуску па месцы ў кантэксце, да times=4 вывучаных даўжынь, з RoPE як ёсць, linear і YaRN.",
        "uk": "Втрати запуску за місцем у контексті, до times=4 вивчених довжин, з RoPE як є, linear і YaRN.",
        "ru": "Потери запуска по месту в контексте, до times=4 обученных длин, с RoPE как есть, linear и YaRN.",
    },
    "tokenizer": {
        "en": "What a tokenizer is worth.",
        "be": "Чаго варты такенізатар.",
        "uk": "Чого вартий токенізатор.",
        "ru": "Чего стоит токенизатор.",
    },
    "tokenizer-report": {
        "en": "A tokenizer beside others, by language: report tokenizer=last text=FOLDER others=other.gguf out=FOLDER",
        "be": "Такенізатар побач з іншымі, па мовах: report tokenizer=last text=ПАПКА others=other.gguf out=ПАПКА",
        "uk": "Токенізатор поряд з іншими, за мовами: report tokenizer=last text=ТЕКА others=other.gguf out=ТЕКА",
        "ru": "Токенизатор рядом с другими, по языкам: report tokenizer=last text=ПАПКА others=other.gguf out=ПАПКА",
    },
}


def help_text(name: str) -> str:
    """The text in the language of BULBA_LANG, else of the system, else English."""
    return TEXTS[name][language()]


def language() -> str:
    """The first of BULBA_LANG, LC_ALL, LC_MESSAGES, LANG that names one of our languages."""
    for variable in ("BULBA_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        code = os.environ.get(variable, "")[:2].lower()
        if code in LANGUAGES:
            return code
    return "en"
