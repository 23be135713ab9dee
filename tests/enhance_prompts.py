"""Sixty prompts as people type them, in five languages, each with what is quoted in it."""

ENGLISH = [
    ('A woman says "It\'s raining." and laughs.', ["It's raining."]),
    ("a cat on a sofa", []),
    ("The dogs' owner doesn't come back, it's late", []),
    ("'Don't go,' he whispers, 'please.'", ["Don't go,", "please."]),
    ("She reads “He said ‘stop’ twice” from a note", ["He said ‘stop’ twice"]),
    ("rock 'n' roll band of the '90s on a 12\" screen", []),
    ('A neon sign "OPEN 24/7" flickers; the clerk says "We\'re closed!"', ["OPEN 24/7", "We're closed!"]),
    ("'Tis nothing,' the old man says", ["Tis nothing,"]),
    ('He shouts "RUN!" then "run?" then "RUN!"', ["RUN!", "run?", "RUN!"]),
    ("A 5'10\" man says 'hi there'", ["hi there"]),
    ('She says "hello there, my friend', ["hello there, my friend"]),
    ("She hums 'goin' home' by the window", ["goin' home"]),
]
CHINESE = [
    ("她说：“你好，世界！”，然后走了", ["你好，世界！"]),
    ("他喊「快跑！『现在』就跑」", ["快跑！『现在』就跑"]),
    ("一只猫在沙发上睡觉", []),
    ("老师问：‘谁来回答？’学生说：“我！”", ["谁来回答？", "我！"]),
    ("招牌上写着『营业中』，雨很大", ["营业中"]),
    ('他说"走吧"，她说"再等等"', ["走吧", "再等等"]),
    ("他说'好的'然后笑了", ["好的"]),
    ("主播说：“欢迎收看‘晚间新闻’。”", ["欢迎收看‘晚间新闻’。"]),
    ("屏幕显示＂加载中…＂", ["加载中…"]),
    ("女孩唱「月亮代表我的心」，男孩说「真好听」", ["月亮代表我的心", "真好听"]),
    ("他用英文说“See you, don't wait”", ["See you, don't wait"]),
    ("牌子上写着「100% 纯天然——不加糖」", ["100% 纯天然——不加糖"]),
]
JAPANESE = [
    ("彼女は「おはよう」と言う", ["おはよう"]),
    ("彼は「『雨』だって?」と聞く", ["『雨』だって?"]),
    ("猫が窓辺で眠っている", []),
    ("看板に『本日休業』とある", ["本日休業"]),
    ("「行こう」「まだ」と二人が言う", ["行こう", "まだ"]),
    ("先生が“静かに”と言い、生徒が笑う", ["静かに"]),
    ("〝特売〟の札を店主が掲げる", ["特売"]),
    ("｢テスト中｣と画面に出る", ["テスト中"]),
    ('少年が"Let\'s go!"と叫ぶ', ["Let's go!"]),
    ("彼女は「ＯＫ、了解です。」と答える", ["ＯＫ、了解です。"]),
    ("老人が「昔々、…」と語りはじめる", ["昔々、…"]),
    ("雨の中を走るバス、傘を差す人々", []),
]
GERMAN = [
    ("Er ruft „Halt!“ und rennt los", ["Halt!"]),
    ("Sie sagt »Komm rein« und öffnet die Tür", ["Komm rein"]),
    ("Ein Hund läuft über die Wiese", []),
    ("Er fragt ‚Wie geht’s?‘ und sie antwortet ‚Gut!‘", ["Wie geht’s?", "Gut!"]),
    ("Auf dem Schild steht „Betreten ‚streng‘ verboten“", ["Betreten ‚streng‘ verboten"]),
    ('Die Verkäuferin sagt "Das macht 3,50 €, bitte."', ["Das macht 3,50 €, bitte."]),
    ("Er flüstert ›leise‹ ins Ohr", ["leise"]),
    ("Hans' Hund bellt, Klaus' Katze faucht", []),
    ("Sie singt „Über den Wolken”, er lacht", ["Über den Wolken"]),
    ("Der Trainer brüllt «Schneller!» und pfeift", ["Schneller!"]),
    ("Auf dem T-Shirt steht 'ICH BIN'S'", ["ICH BIN'S"]),
    ("Sie sagt: „Straße“ – er wiederholt: „STRASSE“", ["Straße", "STRASSE"]),
]
FRENCH = [
    ("Elle dit « Bonjour l’ami ! » en souriant", ["Bonjour l’ami !"]),
    ("L'homme qu'on aime marche jusqu'à l'aube", []),
    ("Il crie «Arrête !» et elle répond «Non.»", ["Arrête !", "Non."]),
    ("L’enseigne affiche “Fermé aujourd’hui”", ["Fermé aujourd’hui"]),
    ("« Il m’a dit ‹ pars › hier », dit-elle", ["Il m’a dit ‹ pars › hier"]),
    ('Le serveur dit "Voilà, l\'addition."', ["Voilà, l'addition."]),
    ("Une vieille dame nourrit des pigeons", []),
    ("Elle chuchote ‘c’est ici’ dans le noir", ["c’est ici"]),
    ("Le panneau indique « 50 km/h » puis « STOP »", ["50 km/h", "STOP"]),
    ("L'enfant dit 'maman, j'ai faim' à table", ["maman, j'ai faim"]),
    ("Il répète « oui » et « oui »", ["oui", "oui"]),
    ("Elle lit « œuvre d’été — n° 5 » à voix haute", ["œuvre d’été — n° 5"]),
]
LANGUAGES = {"English": ENGLISH, "Chinese": CHINESE, "Japanese": JAPANESE, "German": GERMAN, "French": FRENCH}
PROMPTS = [row for rows in LANGUAGES.values() for row in rows]
