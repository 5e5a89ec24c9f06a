"""The words of the pages in English and Russian, and how each language writes its numbers."""

from types import MappingProxyType
from typing import Literal, get_args

from fovsfe.recipe import AboutSettings, AboutWords

Language = Literal["en", "ru"]
LANGUAGE_NAMES: dict[Language, str] = {"en": "English", "ru": "Русский"}

# Each in the order of `Language`. Braces are for `str.format`.
_MESSAGES: dict[str, tuple[str, str]] = {
    "title": ("What does this photo show?", "Что на фото?"),
    "brand": ("Photo classifier", "Классификатор фото"),
    "lede": (
        "Upload a photo to see which of the labels below fits it best.",
        "Загрузите фото, и нейросеть подберёт к нему самое подходящее название из списка ниже.",
    ),
    "skip": ("Skip to the content", "Перейти к содержанию"),
    "languages": ("Language", "Язык"),
    "choose": ("Choose photos", "Выбрать фото"),
    "camera": ("Take a photo", "Сфотографировать"),
    "send": ("Identify", "Определить"),
    "drop": ("or drop them here, or paste them", "или перетащите их сюда, или вставьте из буфера обмена"),
    "accepted": ("{formats}; up to {size}", "{formats}; до {size}"),
    "privacy": (
        "Photos are processed in memory and then discarded. Nothing is stored.",
        "Фото обрабатываются в памяти и сразу удаляются. Ничего не сохраняется.",
    ),
    "api": ("API", "API (на английском)"),
    "results": ("Results", "Результаты"),
    "your_photo": ("Your photo", "Ваше фото"),
    "photo_number": ("Photo {number}", "Фото {number}"),
    "heatmap": ("What the network looked at", "Куда смотрела сеть"),
    "heatmap_alt": (
        "Heat map: the brighter a part of the photo, the more it counted towards the top result",
        "Тепловая карта: чем ярче участок фото, тем сильнее он повлиял на первый результат",
    ),
    "unknown": ("Probably none of these", "Похоже, ничего из этого списка"),
    "unknown_why": (
        "No label reached {threshold}. If it is one of them after all, it is most likely the first one "
        "below. A sharp photo that shows the whole subject is easier to recognise.",
        "Ни один вариант не набрал {threshold}. Если это всё же что-то из списка, то скорее всего первое. "
        "Легче узнать то, что снято целиком и чётко.",
    ),
    "most_likely": ("Most likely", "Наиболее вероятно"),
    "calibrated": (
        "Of a hundred results with 80%, about eighty are right.",
        "Из ста результатов с 80\N{NO-BREAK SPACE}% верны около восьмидесяти.",
    ),
    "how_sure": ("How this was measured", "Как это измерено"),
    "waiting": ("One moment", "Минутку"),
    "progress": ("Uploading the photo", "Отправка фото"),
    "recognising": ("Recognising the photo", "Распознаём фото"),
    "again": ("Try again", "Попробовать ещё раз"),
    "knows": ("Labels this model knows", "Что знает модель"),
    "about_title": ("About the model", "О модели"),
    "about_lede": (
        "What it knows, how often it is right, and where its limits are.",
        "Что она знает, как часто бывает права и где её пределы.",
    ),
    "accuracy_title": ("How often it is right", "Как часто она права"),
    "accuracy_words": ("of its predictions are right", "предсказаний верны"),
    "measured": (
        "Measured on {photos} photos that it was not trained on. For photos like these, the true accuracy "
        "is between {low} and {high} (95% confidence interval).",
        "Измерено на фото, на которых она не обучалась: {photos}\N{NO-BREAK SPACE}шт. Истинная точность на "
        "подобных фото — от {low} до {high} (доверительный интервал 95\N{NO-BREAK SPACE}%).",
    ),
    "not_measured": ("The accuracy of this model was not measured.", "Точность этой модели не измерялась."),
    "log_loss": ("Log loss", "Логарифмическая потеря"),
    "calibration_error": ("Calibration error", "Ошибка калибровки"),
    "threshold": ("Threshold for “none of these”", "Порог для «ничего из списка»"),
    "calibration_words": (
        "The calibration error is the average gap between the probabilities it gives and how often it is "
        "right.",
        "Ошибка калибровки — насколько вероятности, которые она называет, в среднем расходятся с тем, как "
        "часто она права.",
    ),
    "pair_title": ("The hardest pair", "Самая трудная пара"),
    "pair": (
        "{first} and {second} were confused in {mistakes} of {photos} photos.",
        "{first} и {second}: перепутаны на {mistakes} из {photos} фото.",
    ),
    "recall_words": (
        "Recall: how many of the photos with this label were recognised. Precision: how many of the "
        "predictions of this label were right.",
        "Полнота: какая доля фото с этим названием узнана. Точность: какая доля предсказаний этого названия "
        "верна.",
    ),
    "label": ("Label", "Название"),
    "recall": ("Recall", "Полнота"),
    "precision": ("Precision", "Точность"),
    "made_title": ("How it works", "Как она устроена"),
    "made_words": (
        "Several neural networks look at each photo, and their predictions are combined into one.",
        "Каждое фото смотрят несколько нейросетей, и их предсказания объединяются в одно.",
    ),
    "backbone": ("Architecture", "Архитектура"),
    "size": ("Input, height × width", "Вход, высота × ширина"),
    "networks": ("Networks", "Сетей"),
    "accuracy": ("Accuracy on its own", "Точность в одиночку"),
    "quantized": (
        "The networks are stored as {kind}: accuracy {after} on {photos} photos, {before} before that.",
        "Сети хранятся в формате {kind}: точность {after} на {photos} фото, до этого была {before}.",
    ),
    "proof": (
        "On {photos} photos, the probabilities of this service differ from those of the trained networks by "
        "at most {difference}.",
        "На {photos} фото вероятности этого сервиса отличаются от вероятностей обученных сетей не более чем "
        "на {difference}.",
    ),
    "limits_title": ("Limits", "Ограничения"),
    "limit_labels": (
        "It knows only the labels above. For a photo of something else, it may still name one of them.",
        "Она знает только то, что перечислено выше. На фото чего-то другого она может ошибочно увидеть "
        "что-то из списка.",
    ),
    "limit_photos": (
        "The figures hold for photos like those it was measured on. It may do worse with other angles, "
        "crops, drawings, countries or years.",
        "Цифры верны для фото, похожих на те, на которых она проверялась. С другими ракурсами, "
        "кадрированием, рисунками, странами и годами может быть хуже.",
    ),
    "limit_heatmap": (
        "The heat map shows what counted towards a result. It does not prove that the result is right.",
        "Тепловая карта показывает, что повлияло на результат, но не доказывает, что он верен.",
    ),
    "limit_people": (
        "Do not use it for decisions about people or where a mistake is dangerous.",
        "Не используйте её для решений о людях и там, где ошибка опасна.",
    ),
    "licences_title": ("Licences", "Лицензии"),
    "licence_program": (
        "The program is free software under the MIT licence.",
        "Программа — свободное ПО под лицензией MIT.",
    ),
}

# What takes the place of these where the bundle says what its photos show. Russian nouns stay in the
# nominative, as they were given: {noun} and {plural}, or with a capital {Noun} and {Plural}. None: the
# general words do.
_MESSAGES_WITH_NOUN: dict[str, tuple[str | None, str | None]] = {
    "title": ("Which {noun} is it?", None),
    "brand": ("{Plural}", "{Plural}"),
    "lede": (
        "Upload a photo to see which of these {plural} it shows.",
        "Загрузите фото, и нейросеть определит, что на нём. {Plural}, которые она знает, перечислены ниже.",
    ),
    "send": ("Identify the {noun}", None),
    "unknown": ("Probably none of these {plural}", None),
    "unknown_why": (
        "No {noun} reached {threshold}. If it is one of them after all, it is most likely the first one "
        "below. A sharp photo that shows the whole {noun} is easier to recognise.",
        None,
    ),
    "knows": ("{Plural} this model knows", "{Plural}, которые знает модель"),
    "label": ("{Noun}", "{Noun}"),
    "limit_labels": (
        "It knows only these {plural}. For a photo of something else, it may still name one of them.",
        None,
    ),
}

MESSAGES: dict[Language, MappingProxyType[str, str]] = {
    language: MappingProxyType({key: words[at] for key, words in _MESSAGES.items()})
    for at, language in enumerate(get_args(Language))
}
"""language -> key -> words for a bundle that does not say what its photos show; see `messages_about`"""

# slug of `problems.PROBLEM_TYPES` -> title and what to do, in the order of `Language`. The last is page.js's
# own.
_PROBLEMS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "bad-request": (
        ("The request could not be understood", "Reload the page and send the photo again."),
        ("Запрос не удалось понять", "Обновите страницу и отправьте фото ещё раз."),
    ),
    "bad-form": (
        ("The photo was damaged on its way", "Send it again. If that does not help, try another browser."),
        (
            "Фото повредилось при отправке",
            "Отправьте его ещё раз. Если не поможет, попробуйте другой браузер.",
        ),
    ),
    "no-photo": (
        ("No photo was sent", "Choose a photo first, then send it."),
        ("Фото не отправлено", "Сначала выберите фото, затем отправьте его."),
    ),
    "upload-stopped": (
        ("The upload was interrupted", "Check your connection and send the photo again."),
        ("Отправка прервалась", "Проверьте соединение и отправьте фото ещё раз."),
    ),
    "no-key": (
        ("An API key is needed", "Ask the operator of this service for a key."),
        ("Нужен ключ API", "Попросите ключ у владельца этого сервиса."),
    ),
    "not-found": (
        ("There is no such page", "Check the address, or upload a photo here."),
        ("Такой страницы нет", "Проверьте адрес или отправьте фото прямо отсюда."),
    ),
    "wrong-method": (
        ("This cannot be done here", "Reload the page and send the photo from there."),
        ("Здесь так нельзя", "Обновите страницу и отправьте фото с неё."),
    ),
    "too-slow": (
        (
            "The upload took too long",
            "It was stopped. Send a smaller photo, or use a faster connection.",
        ),
        (
            "Отправка заняла слишком много времени",
            "Она прервана. Отправьте фото поменьше или подключитесь к более быстрой сети.",
        ),
    ),
    "too-large": (
        ("The photo is too large", "Send at most {size}. A smaller copy of the photo works just as well."),
        ("Фото слишком большое", "Отправьте не больше {size}. Уменьшенная копия фото подойдёт не хуже."),
    ),
    "too-many-photos": (
        ("Too many photos at once", "Send at most {photos} at a time, then the rest."),
        ("Слишком много фото сразу", "Отправляйте не больше {photos} за раз, остальные — следом."),
    ),
    "not-an-image": (
        ("This is not a photo", "Send a photo in one of these formats: {formats}."),
        ("Это не фото", "Отправьте фото в одном из форматов: {formats}."),
    ),
    "damaged-photo": (
        (
            "The photo cannot be read",
            "The file is damaged or incomplete. Open it on your device and save it again, or send another "
            "photo.",
        ),
        (
            "Фото не читается",
            "Файл повреждён или неполон. Откройте его у себя и сохраните заново или отправьте другое фото.",
        ),
    ),
    "too-many-pixels": (
        ("The photo has too many pixels", "Scale it down, or send another one."),
        ("В фото слишком много пикселей", "Уменьшите его или отправьте другое."),
    ),
    "bad-parameter": (
        ("The address contains a wrong value", "Reload the page and send the photo from there."),
        ("В адресе неверное значение", "Обновите страницу и отправьте фото с неё."),
    ),
    "rate-limited": (
        ("You have sent too many photos", "Wait a minute, then send the next one."),
        ("Вы отправили слишком много фото", "Подождите минуту и отправьте следующее."),
    ),
    "long-header": (
        ("The request is too long", "Delete the cookies of this site and reload the page."),
        ("Запрос слишком длинный", "Удалите файлы cookie этого сайта и обновите страницу."),
    ),
    "internal": (
        ("Something went wrong on our side", "It is not the fault of your photo. Try again a little later."),
        ("У нас что-то сломалось", "Дело не в вашем фото. Попробуйте чуть позже."),
    ),
    "busy": (
        ("Too many visitors right now", "Try again in a few seconds."),
        ("Сейчас слишком много посетителей", "Попробуйте ещё раз через несколько секунд."),
    ),
    "long-wait": (
        ("The photo waited too long", "There are many visitors right now. Try again in a few seconds."),
        (
            "Фото слишком долго ждало в очереди",
            "Сейчас много посетителей. Попробуйте через несколько секунд.",
        ),
    ),
    "not-ready": (
        ("The service is not ready", "It is starting or stopping. Try again in a few seconds."),
        ("Сервис не готов", "Он запускается или останавливается. Попробуйте через несколько секунд."),
    ),
    "unreachable": (
        ("The service does not respond", "Check your connection and try again."),
        ("Сервис не отвечает", "Проверьте соединение и попробуйте ещё раз."),
    ),
}

AGAIN = frozenset(
    {"bad-form", "upload-stopped", "too-slow", "rate-limited"}
    | {"internal", "busy", "long-wait", "not-ready", "unreachable"}
)
"""problems that may be gone when the same photo is sent again"""

PROBLEMS: dict[Language, MappingProxyType[str, tuple[str, str]]] = {
    language: MappingProxyType({slug: words[at] for slug, words in _PROBLEMS.items()})
    for at, language in enumerate(get_args(Language))
}
"""language -> slug -> title and what to do"""


def messages_about(about: AboutSettings, language: Language) -> dict[str, str]:
    """Returns the messages of a language, with the bundle's words for what its photos show."""
    words: AboutWords = about if language == "en" else about.ru
    nouns = {"noun": words.noun, "plural": words.plural}
    nouns |= {"Noun": _capitalised(words.noun), "Plural": _capitalised(words.plural)}
    messages = dict(MESSAGES[language])
    for key, texts in _MESSAGES_WITH_NOUN.items():
        text = texts[get_args(Language).index(language)]
        if text is not None and all(word or f"{{{name}}}" not in text for name, word in nouns.items()):
            for name, word in nouns.items():  # not `str.format`, as other braces are filled in later
                text = text.replace(f"{{{name}}}", word)
            messages[key] = text
    if words.title:
        messages["title"] = words.title
    return messages


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]


def language_of(accepted: str) -> Language:
    """Returns the language that an Accept-Language header prefers; English if it wants neither.

    Follows RFC 9110, section 12.5.4, and ignores what is malformed.
    """
    wanted: dict[str, float] = {}
    for part in accepted.split(","):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        primary = tag.strip().lower().partition("-")[0]
        wanted[primary] = max(quality, wanted.get(primary, 0.0))
    anything = wanted.get("*", 0.0)
    english, russian = wanted.get("en", anything), wanted.get("ru", anything)
    return "ru" if russian > english else "en"


def percent(fraction: float | None, language: Language) -> str:
    """Writes a fraction as a percentage: 0.931 -> "93.1%", "93,1 %".

    It is never rounded to 0 or 100 unless it is that; None becomes a dash.
    """
    if fraction is None:
        return "–"
    if 0 < fraction < 0.0005:
        return "< " + percent(0.001, language)
    if 0.9995 <= fraction < 1:
        return "> " + percent(0.999, language)
    return number(f"{100 * fraction:.1f}", language) + ("\N{NO-BREAK SPACE}%" if language == "ru" else "%")


def number(written: str, language: Language) -> str:
    """Sets the decimal mark: "0.46" -> "0.46", "0,46"."""
    return written.replace(".", ",") if language == "ru" else written


def megabytes(size: int, language: Language) -> str:
    """Writes a number of bytes in MB or kB, rounded down: 16777216 -> "16 MB", "16 МБ"."""
    units = {"en": ("MB", "kB"), "ru": ("МБ", "КБ")}[language]
    amount, unit = (size >> 20, units[0]) if size >= 1 << 20 else (size >> 10, units[1])
    return f"{amount}\N{NO-BREAK SPACE}{unit}"
