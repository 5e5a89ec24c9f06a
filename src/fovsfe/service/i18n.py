"""What the pages say, in Russian and English, and how each language writes its numbers."""

from types import MappingProxyType
from typing import Literal, get_args

Language = Literal["en", "ru"]
LANGUAGE_NAMES: dict[Language, str] = {"en": "English", "ru": "Русский"}

# Each in the order of `Language`. Braces are for `str.format`.
_SAY: dict[str, tuple[str, str]] = {
    "title": ("Which car is it?", "Что за машина?"),
    "lede": (
        "Send a photo, and a neural network says which of the cars it knows is in it.",
        "Пришлите фото, и нейросеть скажет, какая из известных ей машин на нём.",
    ),
    "skip": ("Skip to the content", "К содержанию"),
    "languages": ("Language", "Язык"),
    "choose": ("Choose photos", "Выбрать фото"),
    "camera": ("Take a photo", "Сфотографировать"),
    "send": ("Which car is it?", "Что за машина?"),
    "drop": ("or drop them here, or paste them", "или перетащите их сюда, или вставьте из буфера"),
    "accepted": ("{formats}; {size} at most", "{formats}; не больше {size}"),
    "privacy": (
        "Photos are looked at in memory and forgotten: nothing of them is stored.",
        "Фото обрабатываются в памяти и сразу забываются: ничего не сохраняется.",
    ),
    "api": ("For programs", "Для программ"),
    "answers": ("Answers", "Ответы"),
    "your_photo": ("Your photo", "Ваше фото"),
    "photo_number": ("Photo {number}", "Фото {number}"),
    "heat": ("Where the network looked", "Куда смотрела сеть"),
    "heat_alt": (
        "The brighter a place of the photo, the more it spoke for this answer",
        "Чем ярче место на фото, тем больше оно говорило за этот ответ",
    ),
    "unknown": ("Probably none of the cars it knows", "Похоже, это не одна из известных ей машин"),
    "unknown_why": (
        "No car reached {threshold}. If it is one of them after all, it is most likely the first of these. "
        "A photo of the whole car, from the side or at an angle, is easier to tell.",
        "Ни одна не набрала {threshold}. Если это всё же одна из них, то скорее всего первая из списка. "
        "Легче узнать машину целиком, сбоку или под углом.",
    ),
    "likeliest": ("Likeliest", "Вероятнее всего"),
    "calibrated": (
        "Of a hundred answers given with 80%, about eighty are right.",
        "Из ста ответов с 80\N{NO-BREAK SPACE}% верны около восьмидесяти.",
    ),
    "how_sure": ("How well that has been measured", "Как это измерено"),
    "waiting": ("Wait a moment", "Минутку"),
    "progress": ("Sending the photo", "Отправка фото"),
    "looking": ("Looking at the photo", "Смотрю на фото"),
    "again": ("Try again", "Попробовать ещё раз"),
    "knows": ("The cars it knows", "Машины, которые она знает"),
    "about_title": ("About the model", "О модели"),
    "about_lede": (
        "What it knows, how often it is right, and where its limits are.",
        "Что она знает, как часто права и где её пределы.",
    ),
    "accuracy_title": ("How often it is right", "Как часто она права"),
    "right_answers": ("of its answers are right", "ответов верны"),
    "measured": (
        "Measured on {photos} photos that it had not learned from. The true accuracy on photos like these is "
        "between {low} and {high}, with a confidence of 95%.",
        "Измерено на фото, по которым она не училась: {photos} шт. Истинная точность на подобных фото — "
        "от {low} до {high} с доверительной вероятностью 95\N{NO-BREAK SPACE}%.",
    ),
    "not_measured": ("It has not been measured.", "Она не измерялась."),
    "log_loss": ("Log loss", "Логарифмическая потеря"),
    "calibration_error": ("Calibration error", "Ошибка калибровки"),
    "threshold": ("Under this it is “none of them”", "Ниже этого — «ни одна из них»"),
    "calibration_words": (
        "The calibration error is how far its percentages are from how often it is right, on average.",
        "Ошибка калибровки — насколько её проценты в среднем расходятся с тем, как часто она права.",
    ),
    "pair_title": ("The hardest pair", "Самая трудная пара"),
    "pair": (
        "{first} and {second}: taken for each other in {mistakes} of {photos} photos.",
        "{first} и {second}: перепутаны на {mistakes} из {photos} фото.",
    ),
    "recall_words": (
        "Found: the share of a car’s photos that it recognised. Right: the share of answers with that name "
        "that were so.",
        "Найдено: доля её узнанных фото. Верно: доля правильных среди ответов с этим именем.",
    ),
    "label": ("Car", "Машина"),
    "recall": ("Found", "Найдено"),
    "precision": ("Right", "Верно"),
    "made_title": ("What it is made of", "Из чего она состоит"),
    "made_words": (
        "Several networks look at each photo, and their answers are joined into one.",
        "Каждое фото смотрят несколько сетей, и их ответы соединяются в один.",
    ),
    "backbone": ("Member", "Участник"),
    "size": ("Photo, height × width", "Фото, высота × ширина"),
    "networks": ("Networks", "Сетей"),
    "accuracy": ("Accuracy alone", "Точность в одиночку"),
    "reduced": (
        "Its networks are kept in {kind}: right on {after} of {photos} photos, {before} as trained.",
        "Его сети хранятся в {kind}: верно {after} из {photos} фото, а до того было {before}.",
    ),
    "proof": (
        "As it is served, its probabilities differ from the trained networks’ by {difference} at most, "
        "on {photos} photos.",
        "Здесь её вероятности отличаются от вероятностей обученных сетей не более чем на {difference} "
        "(проверено на {photos} фото).",
    ),
    "limits_title": ("Limits", "Пределы"),
    "limit_labels": (
        "It knows these cars and nothing else. Of another car, or of no car at all, it may still name one.",
        "Она знает только эти машины. Другую машину или фото без неё она может принять за одну из них.",
    ),
    "limit_photos": (
        "The figures hold for photos like those it was measured on. Other angles, crops, drawings, countries "
        "or years may do worse.",
        "Цифры верны для фото, похожих на те, на которых измеряли. С другими ракурсами, кадрами, рисунками, "
        "странами и годами может быть хуже.",
    ),
    "limit_heat": (
        "Where it looked shows what spoke for an answer. It does not prove that the answer is right.",
        "То, куда она смотрела, показывает, что говорило за ответ, но не доказывает, что он верен.",
    ),
    "limit_people": (
        "Not for decisions about people, nor where a mistake is dangerous.",
        "Не для решений о людях и не там, где ошибка опасна.",
    ),
    "licences_title": ("Licences", "Лицензии"),
    "licence_program": (
        "The program is free software under the MIT licence.",
        "Программа — свободная, под лицензией MIT.",
    ),
}

MESSAGES: dict[Language, MappingProxyType[str, str]] = {
    language: MappingProxyType({key: words[at] for key, words in _SAY.items()})
    for at, language in enumerate(get_args(Language))
}
"""Language -> key -> words"""

# slug of `problems.KINDS` -> title and what to do, in the order of `Language`. The last is page.js's own.
_PROBLEMS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "bad-request": (
        ("The request cannot be understood", "Open the page anew and send the photo once more."),
        ("Запрос не удалось понять", "Откройте страницу заново и отправьте фото ещё раз."),
    ),
    "bad-form": (
        ("The photo arrived damaged", "Send it once more. If this stays, try another browser."),
        ("Фото пришло повреждённым", "Отправьте его ещё раз. Если не поможет, попробуйте другой браузер."),
    ),
    "no-photo": (
        ("No photo was sent", "Choose a photo first, then send it."),
        ("Фото не отправлено", "Сначала выберите фото, затем отправьте его."),
    ),
    "upload-stopped": (
        ("The upload stopped before its end", "Check your connection and send the photo once more."),
        ("Отправка прервалась", "Проверьте соединение и отправьте фото ещё раз."),
    ),
    "no-key": (
        ("A key is needed here", "Ask whoever runs this service for a key."),
        ("Здесь нужен ключ", "Попросите ключ у того, кто держит этот сервис."),
    ),
    "not-found": (
        ("There is no such page", "Check the address, or send a photo from here."),
        ("Такой страницы нет", "Проверьте адрес или отправьте фото прямо отсюда."),
    ),
    "wrong-method": (
        ("This cannot be done here", "Open the page anew and send a photo from there."),
        ("Здесь так нельзя", "Откройте страницу заново и отправьте фото оттуда."),
    ),
    "too-slow": (
        (
            "The upload took too long",
            "It was cut. Send a smaller photo, or use a faster connection.",
        ),
        (
            "Отправка заняла слишком много времени",
            "Она прервана. Отправьте фото поменьше или найдите соединение побыстрее.",
        ),
    ),
    "too-large": (
        ("The photo is too large", "Send {size} at most. A smaller copy of the photo is just as good."),
        ("Фото слишком большое", "Отправьте не больше {size}. Уменьшенная копия фото ничуть не хуже."),
    ),
    "too-many-photos": (
        ("Too many photos at once", "Send {photos} at a time at most, and the others after them."),
        ("Слишком много фото сразу", "Отправляйте не больше {photos} за раз, остальные — следом."),
    ),
    "not-an-image": (
        ("This is not a photo", "Send a photo as {formats}."),
        ("Это не фото", "Отправьте фото в одном из форматов: {formats}."),
    ),
    "damaged-photo": (
        (
            "The photo cannot be read",
            "Its file is damaged or cut short. Open it on your device and save it anew, or send another.",
        ),
        (
            "Фото не читается",
            "Файл повреждён или обрезан. Откройте его у себя и сохраните заново или отправьте другое фото.",
        ),
    ),
    "too-many-pixels": (
        ("The photo has too many pixels", "Make it smaller, or send another one."),
        ("В фото слишком много пикселей", "Уменьшите его или отправьте другое."),
    ),
    "bad-parameter": (
        ("The address has a wrong value", "Open the page anew and send the photo from there."),
        ("В адресе неверное значение", "Откройте страницу заново и отправьте фото оттуда."),
    ),
    "rate-limited": (
        ("Too many photos from you", "Wait a minute, then send the next one."),
        ("Слишком много фото от вас", "Подождите минуту и отправьте следующее."),
    ),
    "long-header": (
        ("The request is too long", "Delete this site’s cookies, and open the page anew."),
        ("Запрос слишком длинный", "Удалите файлы cookie этого сайта и откройте страницу заново."),
    ),
    "internal": (
        ("Something went wrong here", "It is our fault, not your photo’s. Try again a little later."),
        ("У нас что-то сломалось", "Дело не в вашем фото, а в нас. Попробуйте чуть позже."),
    ),
    "busy": (
        ("Too many visitors at this moment", "Try again in a few seconds."),
        ("Сейчас слишком много посетителей", "Попробуйте ещё раз через несколько секунд."),
    ),
    "long-wait": (
        ("The photo waited too long", "There are many visitors now. Try again in a few seconds."),
        ("Фото слишком долго ждало очереди", "Сейчас много посетителей. Попробуйте через несколько секунд."),
    ),
    "not-ready": (
        ("The service is not ready yet", "It is just starting. Try again in a few seconds."),
        ("Сервис ещё не готов", "Он как раз запускается. Попробуйте через несколько секунд."),
    ),
    "unreachable": (
        ("No answer from the service", "Check your connection and try again."),
        ("Сервис не отвечает", "Проверьте соединение и попробуйте ещё раз."),
    ),
}

AGAIN = frozenset(
    {"bad-form", "upload-stopped", "too-slow", "rate-limited"}
    | {"internal", "busy", "long-wait", "not-ready", "unreachable"}
)
"""problems that the same photo may not meet a second time"""

PROBLEMS: dict[Language, MappingProxyType[str, tuple[str, str]]] = {
    language: MappingProxyType({slug: words[at] for slug, words in _PROBLEMS.items()})
    for at, language in enumerate(get_args(Language))
}
"""Language -> slug -> title and what to do"""


def language_of(accepted: str) -> Language:
    """Of an Accept-Language header, the language we speak that is wanted most; English where none is.

    Reads it as RFC 9110, 12.5.4 says, and forgives what is malformed.
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


def percent(share: float | None, language: Language) -> str:
    """0.931 -> "93.1%", "93,1 %"; never quite 0 or 100 unless it is; a dash for None."""
    if share is None:
        return "–"
    if 0 < share < 0.0005:
        return "< " + percent(0.001, language)
    if 0.9995 <= share < 1:
        return "> " + percent(0.999, language)
    return number(f"{100 * share:.1f}", language) + ("\N{NO-BREAK SPACE}%" if language == "ru" else "%")


def number(written: str, language: Language) -> str:
    """ "0.46" -> "0.46", "0,46"."""
    return written.replace(".", ",") if language == "ru" else written


def megabytes(size: int, language: Language) -> str:
    """A limit in bytes, rounded down: 16777216 -> "16 MB", "16 МБ"; under one of them in kB."""
    units = {"en": ("MB", "kB"), "ru": ("МБ", "КБ")}[language]
    amount, unit = (size >> 20, units[0]) if size >= 1 << 20 else (size >> 10, units[1])
    return f"{amount}\N{NO-BREAK SPACE}{unit}"
