"""Words by which it is known what a prompt asks for and what an answer brings in: English, Chinese, Japanese, German,
French, Spanish, Russian.
"""

import re


def words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# What in a user's prompt asks for it.
SPEECH_ASKED = words(
    r"\b(?:say|says|said|saying|speak\w*|spoke|talk\w*|tell|tells|told|telling|ask|asks|asked|repl\w+|answer\w*|shout\w*|"
    r"whisper\w*|yell\w*|scream\w*|sing|sings|sang|singing|chant\w*|narrat\w*|voice-?over|dialog\w*|conversation\w*|"
    r"convers\w+|chat\w*|argu\w+|interview\w*|speech|recit\w+|announc\w+|explain\w*|greet\w*|monolog\w*)\b",
    r"说|讲|喊|叫|唱|问|答|对话|台词|旁白|聊|念|朗诵|采访|言|話|話す|歌|叫ぶ|尋ね|答え|会話|セリフ|ナレーション|ささや",
    r"\b(?:sagt?|sagen|sprech\w*|spricht|rede\w*|fragt?|fragen|antwort\w*|ruft|rufen|flüster\w*|sing\w*|gespräch\w*|"
    r"erzähl\w*)\b",
    r"\b(?:dit|dire|parle\w*|demande\w*|répond\w*|crie\w*|chante\w*|chuchote\w*|dialogue|conversation|raconte\w*)\b",
    r"\b(?:dice|dicen|decir|habla\w*|pregunta\w*|responde\w*|grita\w*|canta\w*|susurra\w*|diálogo|conversación|cuenta)\b",
    r"говор|сказ|спраш|отвеч|крич|шепч|по[её]т|поют|диалог|разговор",
)
MUSIC_ASKED = words(
    r"\b(?:music\w*|song\w*|sing\w*|sang|melod\w+|tune\w*|soundtrack|orchestr\w*|band|concert|danc\w+|party|club|dj|piano\w*|"
    r"guitar\w*|violin\w*|cello|drum\w*|flute\w*|trumpet\w*|saxophon\w*|choir\w*|jazz|rock|techno|opera|ballet|score|beat\w*|"
    r"radio|disco|busk\w+|harp|accordion\w*|hum(?:s|ming)?)\b",
    r"音乐|歌|曲|唱|乐|舞|琴|鼓|吉他|音楽|演奏|踊|ピアノ|ギター|ダンス",
    r"\b(?:musik\w*|lied\w*|tanz\w*|singt|singen|klavier|gitarre|geige|musique|chanson|chante\w*|danse\w*|guitare|violon|"
    r"música|canción|canta\w*|baila\w*|guitarra|violín)\b",
    r"музык|песн|по[её]т|танц|гитар|скрипк|пианино|роял",
)
CAMERA_ASKED = words(
    r"\b(?:camera\w*|pan|pans|panning|zoom\w*|tilt\w*|dolly|track(?:s|ing)?|push(?:es)? in|pull(?:s)? back|orbit\w*|"
    r"crane|drone|handheld|pov|steadicam|shot|close-?up|lens|view\w*|fly(?:ing)? over|time-?lapse)\b",
    r"镜头|相机|摄影机|推近|拉远|摇|移|跟拍|航拍|特写|視点|カメラ|ズーム|パン|ドローン",
    r"\b(?:kamera\w*|schwenk\w*|nahaufnahme|caméra|gros plan|travelling|cámara|plano|acercamiento)\b",
    r"камер|крупн\w* план|наезд",
)
STILL_ASKED = words(
    r"\b(?:still|static|stationary|motionless|frozen|freeze\w*|unmoving|statue\w*)\b",
    r"静止|不动|定格|静态|凝固|止ま|動かな|静か|\b(?:reglos|unbewegt|still|starr|immobile|figé\w*|inmóvil|quieto)\b|неподвижн|застыл",
)

# What an answer must not bring in unasked.
MUSIC = words(
    r"(?<!\bno )(?<!\bwithout )(?<!\bnor )\b(?:music|musical|soundtrack|melody|orchestra|orchestral|song|piano chords?|"
    r"guitar chords?|strings swell|drumbeat|score)\b",
    r"(?<!没有)(?<!无)(?:音乐|旋律|配乐|歌曲)",
)
CAMERA = words(
    r"\b(?:camera|lens|view|frame|shot)\b(?:\s+\w+){0,3}?\s+(?:pan|tilt|zoom|doll|track|push|pull|orbit|circl|crane|glid|"
    r"drift|sweep|follow|mov|ris|descend|rotat|travel|approach|retreat)(?:s|es|ies|ing|ning|e|ed)?\b",
    r"\b(?:pans?|panning|zooms?|zooming|tilts?|tilting|dollies) (?:left|right|up|down|in|out|across|over|toward)",
    r"\b(?:tracking|dolly|crane|panning|orbiting) shot\b",
    r"镜头(?:缓缓|缓慢|慢慢|逐渐)?(?:推|拉|摇|移|跟|环绕|上升|下降)",
)
STILL = words(
    r"\b(?:motionless\w*|stationary|unmoving|immobile|standstill|freeze[- ]?frame)\b",
    r"\b(?:stand|stay|sit|remain|lie|keep|hold|is|are|perfectly|completely|absolutely)(?:s|ing)?"
    r"(?: (?:perfectly|completely|very|absolutely))? still\b(?! \w+ing\b)",
    r"\bstill (?:image|frame|shot|photo|photograph|picture|life)\b",
    r"\bstatic (?:camera|shot|frame|scene|pose|image|view|position)\b|\b(?:is|are|remain|stay|remains|stays) static\b",
    r"\bfrozen (?:in|pose|moment|still)\b|\bfixed (?:camera|shot|frame|pose)\b",
    r"静止|一动不动|纹丝不动|定格",
)
SOUND = words(
    r"\b(?:audio|sound\w*|hear\w*|voice\w*|nois\w+|acoustic\w*|ambien\w+|echo\w*|reverb\w*|rustl\w+|hum(?:s|ming)?|hiss\w*|"
    r"crackl\w+|murmur\w*|footstep\w*|quiet|silen\w+|loud\w*|rumbl\w+|chirp\w*|splash\w*|buzz\w*|whistl\w+|bark\w*|drip\w*|"
    r"thud\w*|click\w*|chatter\w*|roar\w*|creak\w*|music)\b",
    r"声|音|響|听|静寂|\b(?:klang|geräusch\w*|ton|stimme\w*|son|bruit\w*|voix|sonido\w*|ruido\w*|voz)\b|звук|шум|голос",
)
VISIBLE = words(
    r"\b(?:read|reads|reading|sign|label\w*|letter\w*|text|titled?|written|word|words|caption|poster|screen)\b"
)
REFUSAL = words(
    r"\A\W*(?:i'?m sorry|i am sorry|sorry,|i can(?:no|')t|i can not|i am unable|i'm unable|as an ai|unfortunately, i)",
    r"\A\W*(?:抱歉|对不起|很抱歉|作为一个?人工智能)",
)
