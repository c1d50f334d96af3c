"""The words around a keyword in the five languages that comments are read in.

Owns lists alone. Must never decide anything; a word that is missing here sends a line to the host's
queue, it does not sell. Read by `grammar` and `quantities`, which normalise them.
"""

from __future__ import annotations

import re

from orders.comments.normal import normalise

#: Counters that follow a number: `2件`, `2 cái`, `2 ตัว`, `2 pcs`, `2 unidades`.
MEASURES_UNSPACED = (
    "個", "个", "件", "組", "组", "包", "盒", "份", "套", "雙", "双", "瓶", "箱", "條", "条", "罐",
    "隻", "只", "支", "張", "张", "本", "台", "對", "对", "袋", "片", "顆", "颗", "斤", "打", "枚",
    "ตัว", "ชิ้น", "อัน", "กล่อง", "ถุง", "ขวด", "คู่", "แพ็ค", "แพค", "ชุด", "ใบ", "ผืน", "เส้น",
    "ห่อ",
)  # fmt: skip
MEASURES_SPACED = (
    "pieces", "piece", "pcs", "pc", "packs", "pack", "boxes", "box", "sets", "set", "pairs", "pair",
    "units", "unit", "bottles", "bottle", "bags", "bag", "ea",
    "unidades", "unidad", "uds", "ud", "piezas", "pieza", "cajas", "caja", "pares", "par",
    "cái", "chiếc", "hộp", "bộ", "gói", "chai", "đôi", "lon", "bịch", "túi",
    "sp", "c",
)  # fmt: skip

#: Numbers in words. Han digits count only before a counter or after a sign.
HAN_DIGITS = {c: n for n, c in enumerate("一二三四五六七八九", 1)} | {"兩": 2, "两": 2, "俩": 2}
THAI_NUMBERS = {
    "หนึ่ง": 1, "สอง": 2, "สาม": 3, "สี่": 4, "ห้า": 5, "หก": 6, "เจ็ด": 7, "แปด": 8, "เก้า": 9,
    "สิบ": 10,
}  # fmt: skip
WORD_NUMBERS = {
    word: number
    for words in (
        "one two three four five six seven eight nine ten",
        "uno dos tres cuatro cinco seis siete ocho nueve diez",
        "một hai ba bốn năm sáu bảy tám chín mười",
    )
    for number, word in enumerate(words.split(), 1)
} | {"un": 1, "una": 1}

#: Of telephone numbers: `+886 912…` is one, `+2 912…` is a quantity and another one.
COUNTRY_CODES = frozenset(
    (
        "1", "33", "34", "39", "44", "49", "51", "52", "54", "56", "57", "58", "60", "61", "62",
        "63", "65", "66", "81", "82", "84", "86", "91", "95", "351", "502", "503", "504", "505",
        "506", "507", "591", "593", "595", "598", "673", "852", "853", "855", "856", "886",
    )
)  # fmt: skip

#: What says that a number is a quantity, though no sign does.
LABELS = (
    "數量", "数量", "จำนวน", "số lượng", "cantidad", "quantity", "cant", "qty", "sl", "加", "各",
)  # fmt: skip

#: Words that a keyword of a script without spaces may follow, and that may follow it.
LEADS = (
    "要", "想要", "買", "买", "下單", "下单", "來", "来", "訂", "订", "請", "请", "給我", "给我",
    "拿",
    "還有", "还有", "跟", "和", "與", "与", "加", "及", "收", "單", "单", "喊", "再", "我",
    "เอา", "รับ", "สั่ง", "จอง", "ขอ", "ซื้อ", "สนใจ", "อยากได้", "และ", "กับ", "ตัว",
    *MEASURES_UNSPACED,
)  # fmt: skip
FOLLOWERS = (
    "謝謝", "谢谢", "感謝", "感谢", "感恩", "喔", "哦", "唷", "呦", "啦", "吧", "拜託", "拜托",
    "請", "请",
    "加", "各", "和", "跟", "與", "与", "還有", "还有", "我要", "要", "麻煩", "麻烦", "了", "耶",
    "呢", "數量",
    "数量", "單", "单",
    "ค่ะ", "คะ", "ครับ", "คับ", "จ้า", "จ้ะ", "นะ", "หน่อย", "ด้วย", "และ", "กับ", "จำนวน", "เลย",
)  # fmt: skip

#: A price is no quantity.
CURRENCIES = (
    "元", "塊", "块", "圓", "円", "¥", "฿", "₫", "€", "£", "$", "บาท", "k", "đ", "vnd", "vnđ",
    "baht",
    "thb", "usd", "eur", "euros", "euro", "pesos", "peso", "twd", "ntd", "nt$", "dollars", "đồng",
    "ngàn", "nghìn",
)  # fmt: skip

#: What makes a number a size or a measure of the thing itself.
SIZES = (
    "xs", "s", "m", "l", "xl", "xxl", "xxxl", "ml", "cl", "cc", "g", "gr", "gm", "gms", "kg", "mg",
    "lb", "lbs", "oz", "mm", "cm", "in", "inch", "ft", "gb", "tb", "mah", "w", "v", "d", "eu", "us",
    "uk", "th", "st", "nd", "rd", "pm", "am", "min", "h", "hr", "day", "days", "years", "yo", "f",
)  # fmt: skip

#: What may stand between a number and the keyword that it is of: `2 de A1`, `2x A1`.
CONNECTORS = ("de la", "del", "de", "of", "x", "*", "×", "的")

#: Politeness that leaves a bare `+1` what it is.
PLEASANTRIES = (
    "謝謝", "谢谢", "感謝", "感谢", "感恩", "麻煩", "麻烦", "拜託", "拜托", "請", "请", "喔",
    "哦", "喊", "跟", "我要", "我", "要", "啦", "唷", "ค่ะ", "คะ", "ครับ", "คับ", "จ้า", "นะ",
    "ขอ", "เอา", "รับ", "cf", "please", "pls", "plz", "thanks", "thank you", "thx", "me",
    "i want", "gracias", "por favor", "quiero", "cảm ơn", "ạ", "nhé", "nha", "em", "cho", "mình",
    "chốt",
)  # fmt: skip


def _any(spaced: str, unspaced: str) -> re.Pattern[str]:
    """Return a pattern of plain alternatives, words of scripts with spaces as whole words."""
    return re.compile(rf"(?<!\w)(?:{normalise(spaced)})(?!\w)|{normalise(unspaced)}")


#: A line that has one of these takes something back, or wants none: never a buy.
REFUSALS = _any(
    r"no|nope|nah|cancel|canceled|cancelled|don't|don’t|dont|do not|not|no longer|never mind|remove"
    r"|hủy|huỷ|không lấy|không mua|ko lấy|bỏ|huy|khong lay"
    r"|cancelar|cancela|cancelo|no quiero|ya no|quitar",
    r"取消|不要|不買|不买|不用|不下單|退掉|退單|退款|退貨|退货|別|ยกเลิก|ไม่",
)
#: A line that asks is no order.
QUESTIONS = _any(
    r"how much|how many|price|available|any left|still have|what|which|when|where|is there"
    r"|bao nhiêu|giá|còn không|còn ko|còn k|mấy|nào|không ạ|chưa"
    r"|cuánto|cuanto|cuánta|cuántos|precio|queda|quedan|cuál|cual",
    r"\?|嗎|吗|多少|幾|几|有沒有|有没有|怎麼|怎么|什麼|什么|哪|還有貨"
    r"|เท่าไหร่|เท่าไร|กี่|ไหม|มั้ย|มัย|ราคา|หรือยัง",
)
#: Two keywords with one of these between them are a choice that nobody has made.
CHOICES = _any(r"or|hoặc|hay|o|u", r"或|還是|还是|หรือ")
