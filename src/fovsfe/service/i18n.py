"""Translations: the words of the pages in each language, and how each writes its numbers.

To add a language, make a `Translation` like `_ENGLISH` and put it into `TRANSLATIONS` under its code: the
pages then offer it, and the tests name any text that it lacks. For a recipe's words in it, `AboutSettings` in
recipe.py needs a field of that code, as `ru` is for `[about.ru]`; without one, its pages use general words.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fovsfe.recipe import AboutSettings, AboutWords

Language = str
"""a key of `TRANSLATIONS`: the primary tag of a language, such as "en"; see RFC 5646"""


@dataclass(frozen=True)
class NumberFormat:
    """How a language writes its numbers."""

    decimal_mark: str
    percent_sign: str
    """with the space before it, if it has one"""
    megabyte: str
    kilobyte: str


@dataclass(frozen=True)
class Translation:
    """All texts of the pages in one language. Braces are for `str.format`."""

    name: str
    """the language in its own words"""
    number_format: NumberFormat
    messages: Mapping[str, str]
    """by key; for a bundle that does not say what its photos show, see `messages_about`"""
    messages_with_noun: Mapping[str, str]
    """what replaces some of them where the bundle says it: with {noun} and {plural}, or with a capital {Noun}
    and {Plural}, in the form in which they were given"""
    problems: Mapping[str, tuple[str, str]]
    """title and what to do, by the slug of `problems.PROBLEM_TYPES`; "unreachable" is of page.js alone"""


_ENGLISH = Translation(
    name="English",
    number_format=NumberFormat(decimal_mark=".", percent_sign="%", megabyte="MB", kilobyte="kB"),
    messages={
        "title": "What does this photo show?",
        "brand": "Photo classifier",
        "intro": "Upload a photo to see which of the labels below fits it best.",
        "skip": "Skip to the content",
        "languages": "Language",
        "choose": "Choose photos",
        "camera": "Take a photo",
        "send": "Identify",
        "drop": "or drop them here, or paste them",
        "accepted": "{formats}; up to {size}",
        "privacy": "Photos are processed in memory and then discarded. Nothing is stored.",
        "api": "API",
        "results": "Results",
        "your_photo": "Your photo",
        "photo_number": "Photo {number}",
        "heatmap": "What influenced this answer",
        "heat_least": "hardly",
        "heat_most": "most",
        "heatmap_alt": (
            "Heat map: the brighter a part of the photo, the more it counted towards the top result"
        ),
        "unknown": "Probably none of these",
        "unknown_why": (
            "The photo does not look like any of those that the model learned from. If it does show one of "
            "the labels, it is most likely the first one below. A sharp photo that shows the whole subject "
            "is easier to recognise."
        ),
        "one_of_two": "One of these two: {labels}",
        "one_of": "One of these: {labels}",
        "or": "{first} or {last}",
        "most_likely": "Most likely",
        "rest": "{count} more, at most {percent} each",
        "compare": "Compare with known photos",
        "example_alt": "Known photo: {label}",
        "samples": "Or try one of these photos",
        "sample_alt": "Try photo {number}",
        "record": "Answers like this one were right {right} of {photos} times.",
        "how_sure": "How this was measured",
        "waiting": "One moment",
        "progress": "Uploading the photo",
        "recognising": "Recognising the photo",
        "again": "Try again",
        "knows": "Labels this model knows",
        "about_title": "About the model",
        "about_intro": "What it knows, how often it is right, and where its limits are.",
        "accuracy_title": "How often it is right",
        "accuracy_words": "of its predictions are right",
        "measured": (
            "Measured on {photos} photos that it was not trained on. For photos like these, the true "
            "accuracy is between {low} and {high} (95% confidence interval)."
        ),
        "baselines": (
            "For comparison: always naming the most frequent label is right for {most_frequent} of these "
            "photos, guessing for {guessing}."
        ),
        "no_better_guessing": "This model is no better than guessing.",
        "no_better_most_frequent": "This model is no better than always naming the most frequent label.",
        "no_photos": "No photo that it was measured on has these labels: {labels}.",
        "not_measured": "The accuracy of this model was not measured.",
        "log_loss": "Log loss",
        "calibration_error": "Calibration error",
        "sure_title": "When it is not sure",
        "sets_measured": (
            "Where two or more labels are possible, it names so many that the true one is among them for "
            "{asked} of photos. On {photos} photos it was {share} (95% interval: {low} to {high}), with "
            "{size} labels on average."
        ),
        "withheld": (
            "“None of these” is said of {share} of {photos} answers that would have been right (95% "
            "interval: {low} to {high})."
        ),
        "strangers_words": "And so many photos of something else get a label all the same:",
        "strangers": "Shown",
        "shown": "Photos",
        "named": "Named",
        "interval": "95% interval",
        "left_out": "Labels that were left out in turn",
        "plain_colours": "Plain colours",
        "gradients": "Gradients",
        "noise": "Noise",
        "screens": "Screens of text",
        "negatives": "Photos of something else",
        "calibration_words": (
            "The calibration error is the average gap between the probabilities it gives and how often it "
            "is right."
        ),
        "pair_title": "The hardest pair",
        "pair": "{first} and {second} were mistaken for each other in {mistakes} of {photos} photos.",
        "recall_words": (
            "Recall: how many of the photos with this label were recognised. Precision: how many of the "
            "predictions of this label were right."
        ),
        "label": "Label",
        "recall": "Recall",
        "precision": "Precision",
        "made_title": "How it works",
        "made_words": (
            "Several neural networks look at each photo, and their predictions are combined into one."
        ),
        "backbone": "Architecture",
        "size": "Input, height × width",
        "networks": "Networks",
        "accuracy": "Accuracy on its own",
        "quantized": (
            "The networks are stored as {kind}: accuracy {after} on {photos} photos, {before} at full "
            "precision."
        ),
        "parity": (
            "On {photos} photos, the probabilities of this service differ from those of the trained "
            "networks by at most {difference}."
        ),
        "limits_title": "Limits",
        "limit_labels": (
            "It knows only the labels above. For a photo of something else, it may still name one of them."
        ),
        "limit_photos": (
            "The figures hold for photos like those it was measured on. It may do worse with other angles, "
            "crops, drawings, countries or years."
        ),
        "limit_heatmap": (
            "The heat map shows what counted towards a result. It does not prove that the result is right."
        ),
        "limit_people": "Do not use it for decisions about people or where a mistake is dangerous.",
        "licences_title": "Licences",
        "licence_program": "The program is free software under the MIT licence.",
        "monitor_title": "Still as good?",
        "monitor_intro": (
            "What the last answers of this service say of its accuracy. Of a photo nothing is kept: only the "
            "label of the answer and how sure it was are counted."
        ),
        "monitor_expected": "Expected accuracy",
        "monitor_interval": "Expected of the recent answers that name a label: between {low} and {high}.",
        "monitor_answers": "Recent answers",
        "monitor_measured": "Measured on held-out photos",
        "monitor_unknown": "“None of these” recently",
        "monitor_unknown_before": "“None of these” on held-out photos",
        "monitor_words": (
            "The accuracy is expected to change by as much as the average confidence does. The true "
            "accuracy is known only for photos whose labels somebody checks: do so now and then."
        ),
        "monitor_no_reference": "This bundle has nothing to compare answers with: export it again.",
        "monitor_few_answers": "Too few answers: {fewest} that name a label are needed.",
        "monitor_strangers": (
            "No accuracy can be told: many more photos than before show none of the labels, and others of "
            "their kind may have got one."
        ),
        "monitor_confidence": (
            "No accuracy can be told, except that it has probably fallen: the answers are much less sure "
            "than on held-out photos. Look at what kind of photos arrive."
        ),
        "monitor_labels": "Answers by label",
        "monitor_now": "Recently",
        "monitor_before": "On held-out photos",
        "drift_title": "What has changed",
        "drift_words": (
            "A stability index below 0.1 means that nothing has changed, above 0.25 that much has. The "
            "p-value says how often chance alone makes such a difference."
        ),
        "drift_of": "Of the answers",
        "drift_labels": "Labels",
        "drift_confidence": "Confidence",
        "drift_psi": "Stability index",
        "drift_p": "p-value",
        "drift_verdict": "Changed",
        "drift_yes": "much",
        "drift_some": "somewhat",
        "drift_no": "no",
    },
    messages_with_noun={
        "title": "Which {noun} is it?",
        "brand": "{Plural}",
        "intro": "Upload a photo to see which of these {plural} it shows.",
        "send": "Identify the {noun}",
        "unknown": "Probably none of these {plural}",
        "unknown_why": (
            "The photo does not look like any of those that the model learned from. If it does show one of "
            "these {plural}, it is most likely the first one below. A sharp photo that shows the whole "
            "{noun} is easier to recognise."
        ),
        "knows": "{Plural} this model knows",
        "label": "{Noun}",
        "limit_labels": (
            "It knows only these {plural}. For a photo of something else, it may still name one of them."
        ),
    },
    problems={
        "bad-request": ("The request could not be understood", "Reload the page and send the photo again."),
        "bad-form": (
            "The photo was damaged on its way",
            "Send it again. If that does not help, try another browser.",
        ),
        "no-photo": ("No photo was sent", "Choose a photo first, then send it."),
        "upload-stopped": ("The upload was interrupted", "Check your connection and send the photo again."),
        "no-key": ("An API key is needed", "Ask the operator of this service for a key."),
        "not-found": ("There is no such page", "Check the address, or upload a photo here."),
        "wrong-method": ("This cannot be done here", "Reload the page and send the photo from there."),
        "too-slow": (
            "The upload took too long",
            "It was stopped. Send a smaller photo, or use a faster connection.",
        ),
        "too-large": (
            "The photo is too large",
            "Send at most {size}. A smaller copy of the photo works just as well.",
        ),
        "too-many-photos": ("Too many photos at once", "Send at most {photos} at a time, then the rest."),
        "not-an-image": ("This is not a photo", "Send a photo in one of these formats: {formats}."),
        "damaged-photo": (
            "The photo cannot be read",
            "The file is damaged or incomplete. Open it on your device and save it again, or send another "
            "photo.",
        ),
        "too-many-pixels": ("The photo has too many pixels", "Scale it down, or send another one."),
        "too-much-memory": (
            "Decoding the photo takes too much memory",
            "Scale it down, or send another one.",
        ),
        "bad-parameter": (
            "The address contains a wrong value",
            "Reload the page and send the photo from there.",
        ),
        "rate-limited": ("You have sent too many photos", "Wait a minute, then send the next one."),
        "long-header": ("The request is too long", "Delete the cookies of this site and reload the page."),
        "internal": (
            "Something went wrong on our side",
            "It is not the fault of your photo. Try again a little later.",
        ),
        "busy": ("Too many visitors right now", "Try again in a few seconds."),
        "long-wait": (
            "The photo waited too long",
            "There are many visitors right now. Try again in a few seconds.",
        ),
        "not-ready": ("The service is not ready", "It is starting or stopping. Try again in a few seconds."),
        "unreachable": ("The service does not respond", "Check your connection and try again."),
    },
)

_RUSSIAN = Translation(
    name="Русский",
    number_format=NumberFormat(
        decimal_mark=",", percent_sign="\N{NO-BREAK SPACE}%", megabyte="МБ", kilobyte="КБ"
    ),
    messages={
        "title": "Что на фото?",
        "brand": "Классификатор фото",
        "intro": "Загрузите фото, и нейросеть подберёт к нему самое подходящее название из списка ниже.",
        "skip": "Перейти к содержанию",
        "languages": "Язык",
        "choose": "Выбрать фото",
        "camera": "Сфотографировать",
        "send": "Определить",
        "drop": "или перетащите их сюда, или вставьте из буфера обмена",
        "accepted": "{formats}; до {size}",
        "privacy": "Фото обрабатываются в памяти и сразу удаляются. Ничего не сохраняется.",
        "api": "API (на английском)",
        "results": "Результаты",
        "your_photo": "Ваше фото",
        "photo_number": "Фото {number}",
        "heatmap": "Что повлияло на ответ",
        "heat_least": "слабо",
        "heat_most": "сильно",
        "heatmap_alt": "Тепловая карта: чем ярче участок фото, тем сильнее он повлиял на первый результат",
        "unknown": "Похоже, ничего из этого списка",
        "unknown_why": (
            "Фото не похоже ни на одно из тех, на которых училась модель. Если это всё же что-то из списка, "
            "то скорее всего первое. Легче узнать то, что снято целиком и чётко."
        ),
        "one_of_two": "Одно из двух: {labels}",
        "one_of": "Одно из этого: {labels}",
        "or": "{first} или {last}",
        "most_likely": "Наиболее вероятно",
        "rest": "Ещё {count}, не более чем по {percent}",
        "compare": "Сравните с известными фото",
        "example_alt": "Известное фото: {label}",
        "samples": "Или попробуйте одно из этих фото",
        "sample_alt": "Попробовать фото {number}",
        "record": "При проверке подобных ответов было {photos}, из них верных: {right}.",
        "how_sure": "Как это измерено",
        "waiting": "Минутку",
        "progress": "Отправка фото",
        "recognising": "Распознаём фото",
        "again": "Попробовать ещё раз",
        "knows": "Что знает модель",
        "about_title": "О модели",
        "about_intro": "Что она знает, как часто бывает права и где её пределы.",
        "accuracy_title": "Как часто она права",
        "accuracy_words": "предсказаний верны",
        "measured": (
            "Измерено на фото, на которых она не обучалась: {photos}\N{NO-BREAK SPACE}шт. Истинная точность "
            "на подобных фото — от {low} до {high} (доверительный интервал 95\N{NO-BREAK SPACE}%)."
        ),
        "baselines": (
            "Для сравнения: если всегда называть самый частый вариант, верны {most_frequent} этих ответов, "
            "если угадывать — {guessing}."
        ),
        "no_better_guessing": "Эта модель не лучше угадывания.",
        "no_better_most_frequent": "Эта модель не лучше, чем всегда называть самый частый вариант.",
        "no_photos": "Ни на одном проверочном фото нет следующего: {labels}.",
        "not_measured": "Точность этой модели не измерялась.",
        "log_loss": "Логарифмическая потеря",
        "calibration_error": "Ошибка калибровки",
        "sure_title": "Когда она не уверена",
        "sets_measured": (
            "Если подходит не один вариант, она называет столько, чтобы верный был среди них на {asked} "
            "фото. На проверочных фото ({photos}\N{NO-BREAK SPACE}шт.) так было в {share} случаев "
            "(доверительный интервал 95\N{NO-BREAK SPACE}%: от {low} до {high}), в среднем названо "
            "вариантов: {size}."
        ),
        "withheld": (
            "«Ничего из списка» сказано о {share} ответов, которые были бы верны (всего таких ответов: "
            "{photos}; доверительный интервал 95\N{NO-BREAK SPACE}%: от {low} до {high})."
        ),
        "strangers_words": "А вот какой доле посторонних фото она всё же даёт название:",
        "strangers": "Что показали",
        "shown": "Фото",
        "named": "Названо",
        "interval": "Интервал 95\N{NO-BREAK SPACE}%",
        "left_out": "Названия, по очереди исключённые из обучения",
        "plain_colours": "Однотонные картинки",
        "gradients": "Градиенты",
        "noise": "Шум",
        "screens": "Снимки экрана с текстом",
        "negatives": "Посторонние фото",
        "calibration_words": (
            "Ошибка калибровки — насколько вероятности, которые она называет, в среднем расходятся с тем, "
            "как часто она права."
        ),
        "pair_title": "Самая трудная пара",
        "pair": "{first} и {second}: перепутаны на {mistakes} из {photos} фото.",
        "recall_words": (
            "Полнота: какая доля фото с этим названием узнана. Точность: какая доля предсказаний этого "
            "названия верна."
        ),
        "label": "Название",
        "recall": "Полнота",
        "precision": "Точность",
        "made_title": "Как она устроена",
        "made_words": "Каждое фото смотрят несколько нейросетей, и их предсказания объединяются в одно.",
        "backbone": "Архитектура",
        "size": "Вход, высота × ширина",
        "networks": "Сетей",
        "accuracy": "Точность в одиночку",
        "quantized": (
            "Сети хранятся в формате {kind}: точность {after} на {photos} фото, до этого была {before}."
        ),
        "parity": (
            "На {photos} фото вероятности этого сервиса отличаются от вероятностей обученных сетей не более "
            "чем на {difference}."
        ),
        "limits_title": "Ограничения",
        "limit_labels": (
            "Она знает только то, что перечислено выше. На фото чего-то другого она может ошибочно увидеть "
            "что-то из списка."
        ),
        "limit_photos": (
            "Цифры верны для фото, похожих на те, на которых она проверялась. С другими ракурсами, "
            "кадрированием, рисунками, странами и годами может быть хуже."
        ),
        "limit_heatmap": (
            "Тепловая карта показывает, что повлияло на результат, но не доказывает, что он верен."
        ),
        "limit_people": "Не используйте её для решений о людях и там, где ошибка опасна.",
        "licences_title": "Лицензии",
        "licence_program": "Программа — свободное ПО под лицензией MIT.",
        "monitor_title": "Всё ещё точна?",
        "monitor_intro": (
            "Что последние ответы сервиса говорят о его точности. От фото ничего не хранится: считаются "
            "только название в ответе и уверенность."
        ),
        "monitor_expected": "Ожидаемая точность",
        "monitor_interval": "Для последних ответов с названием ожидается от {low} до {high}.",
        "monitor_answers": "Последних ответов",
        "monitor_measured": "Измерено на отложенных фото",
        "monitor_unknown": "«Ничего из этого» в последних ответах",
        "monitor_unknown_before": "«Ничего из этого» на отложенных фото",
        "monitor_words": (
            "Предполагается, что точность меняется на столько же, на сколько средняя уверенность. "
            "Настоящая точность известна, только если кто-то проверяет ответы: иногда делайте это."
        ),
        "monitor_no_reference": "В модели нет данных для сравнения: экспортируйте её заново.",
        "monitor_few_answers": "Ответов слишком мало: нужно {fewest} с названием.",
        "monitor_strangers": (
            "О точности сказать нельзя: гораздо больше фото, чем раньше, не показывают ничего из списка, и "
            "часть таких фото могла получить название."
        ),
        "monitor_confidence": (
            "О точности сказать нельзя, кроме того, что она, вероятно, упала: ответы намного менее "
            "уверенные, чем на отложенных фото. Посмотрите, какие фото приходят."
        ),
        "monitor_labels": "Ответы по названиям",
        "monitor_now": "Сейчас",
        "monitor_before": "На отложенных фото",
        "drift_title": "Что изменилось",
        "drift_words": (
            "Индекс стабильности ниже 0,1 — ничего не изменилось, выше 0,25 — изменилось многое. p-значение: "
            "как часто такая разница возникает случайно."
        ),
        "drift_of": "В ответах",
        "drift_labels": "Названия",
        "drift_confidence": "Уверенность",
        "drift_psi": "Индекс стабильности",
        "drift_p": "p-значение",
        "drift_verdict": "Изменилось",
        "drift_yes": "сильно",
        "drift_some": "немного",
        "drift_no": "нет",
    },
    messages_with_noun={
        "brand": "{Plural}",
        "intro": (
            "Загрузите фото, и нейросеть определит, что на нём. {Plural}, которые она знает, перечислены "
            "ниже."
        ),
        "knows": "{Plural}, которые знает модель",
        "label": "{Noun}",
    },
    problems={
        "bad-request": ("Запрос не удалось понять", "Обновите страницу и отправьте фото ещё раз."),
        "bad-form": (
            "Фото повредилось при отправке",
            "Отправьте его ещё раз. Если не поможет, попробуйте другой браузер.",
        ),
        "no-photo": ("Фото не отправлено", "Сначала выберите фото, затем отправьте его."),
        "upload-stopped": ("Отправка прервалась", "Проверьте соединение и отправьте фото ещё раз."),
        "no-key": ("Нужен ключ API", "Попросите ключ у владельца этого сервиса."),
        "not-found": ("Такой страницы нет", "Проверьте адрес или отправьте фото прямо отсюда."),
        "wrong-method": ("Здесь так нельзя", "Обновите страницу и отправьте фото с неё."),
        "too-slow": (
            "Отправка заняла слишком много времени",
            "Она прервана. Отправьте фото поменьше или подключитесь к более быстрой сети.",
        ),
        "too-large": (
            "Фото слишком большое",
            "Отправьте не больше {size}. Уменьшенная копия фото подойдёт не хуже.",
        ),
        "too-many-photos": (
            "Слишком много фото сразу",
            "Отправляйте не больше {photos} за раз, остальные — следом.",
        ),
        "not-an-image": ("Это не фото", "Отправьте фото в одном из форматов: {formats}."),
        "damaged-photo": (
            "Фото не читается",
            "Файл повреждён или неполон. Откройте его у себя и сохраните заново или отправьте другое фото.",
        ),
        "too-many-pixels": ("В фото слишком много пикселей", "Уменьшите его или отправьте другое."),
        "too-much-memory": (
            "Для декодирования фото нужно слишком много памяти",
            "Уменьшите его или отправьте другое.",
        ),
        "bad-parameter": ("В адресе неверное значение", "Обновите страницу и отправьте фото с неё."),
        "rate-limited": ("Вы отправили слишком много фото", "Подождите минуту и отправьте следующее."),
        "long-header": ("Запрос слишком длинный", "Удалите файлы cookie этого сайта и обновите страницу."),
        "internal": ("У нас что-то сломалось", "Дело не в вашем фото. Попробуйте чуть позже."),
        "busy": ("Сейчас слишком много посетителей", "Попробуйте ещё раз через несколько секунд."),
        "long-wait": (
            "Фото слишком долго ждало в очереди",
            "Сейчас много посетителей. Попробуйте через несколько секунд.",
        ),
        "not-ready": (
            "Сервис не готов",
            "Он запускается или останавливается. Попробуйте через несколько секунд.",
        ),
        "unreachable": ("Сервис не отвечает", "Проверьте соединение и попробуйте ещё раз."),
    },
)

# The first one is for visitors who want none of them.
TRANSLATIONS: dict[Language, Translation] = {"en": _ENGLISH, "ru": _RUSSIAN}

RETRYABLE_PROBLEMS = frozenset(
    {"bad-form", "upload-stopped", "too-slow", "rate-limited"}
    | {"internal", "busy", "long-wait", "not-ready", "unreachable"}
)
"""problems that may be gone when the same photo is sent again"""


def messages_about(about: AboutSettings, language: Language) -> dict[str, str]:
    """Returns the messages of a language, with the bundle's words for what its photos show."""
    words = _about_words(about, language)
    nouns = {"noun": words.noun, "plural": words.plural}
    nouns |= {"Noun": _capitalised(words.noun), "Plural": _capitalised(words.plural)}
    translation = TRANSLATIONS[language]
    messages = dict(translation.messages)
    for key, text in translation.messages_with_noun.items():
        if all(word or f"{{{name}}}" not in text for name, word in nouns.items()):
            for name, word in nouns.items():  # not `str.format`, as other braces are filled in later
                text = text.replace(f"{{{name}}}", word)
            messages[key] = text
    if words.title:
        messages["title"] = words.title
    return messages


def _about_words(about: AboutSettings, language: Language) -> AboutWords:
    """Returns the words of `[about]`, which are English, or those of the table in it for the language."""
    words: AboutWords = about if language == "en" else getattr(about, language, AboutWords())
    return words


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]


def language_of(accepted: str) -> Language:
    """Returns the language that an Accept-Language header prefers; the first one if it wants none of them.

    Follows RFC 9110, section 12.5.4, and ignores what is malformed.
    """
    wanted: dict[str, float] = {}
    for part in accepted.split(","):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if 0 <= quality <= 1:
            primary = tag.strip().lower().partition("-")[0]
            wanted[primary] = max(quality, wanted.get(primary, 0.0))
    anything = wanted.get("*", 0.0)
    return max(TRANSLATIONS, key=lambda language: wanted.get(language, anything))


def format_percent(fraction: float | None, language: Language) -> str:
    """Writes a fraction as a percentage: 0.931 -> "93.1%", "93,1 %".

    It is never rounded to 0 or 100 unless it is that; None becomes a dash.
    """
    if fraction is None:
        return "–"
    if 0 < fraction < 0.0005:
        return "< " + format_percent(0.001, language)
    if 0.9995 <= fraction < 1:
        return "> " + format_percent(0.999, language)
    return (
        format_number(f"{100 * fraction:.1f}", language) + TRANSLATIONS[language].number_format.percent_sign
    )


def format_number(written: str, language: Language) -> str:
    """Sets the decimal mark: "0.46" -> "0.46", "0,46"."""
    return written.replace(".", TRANSLATIONS[language].number_format.decimal_mark)


def format_size(size: int, language: Language) -> str:
    """Writes a number of bytes in MB or kB, rounded down: 16777216 -> "16 MB", "16 МБ"."""
    units = TRANSLATIONS[language].number_format
    amount, unit = (size >> 20, units.megabyte) if size >= 1 << 20 else (size >> 10, units.kilobyte)
    return f"{amount}\N{NO-BREAK SPACE}{unit}"
