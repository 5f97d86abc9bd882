"""What judges call their verdict in other languages, where they write the rest of their reply in one."""

from __future__ import annotations

import re

__all__ = ["LABEL", "NOUN"]

_LABELS = {
    "German": "urteil, endurteil, gewinner, sieger, entscheidung, fazit, ergebnis, bessere antwort",
    "French": "gagnant, vainqueur, décision, choix, jugement, résultat, meilleure réponse",
    "Spanish": "veredicto, ganador, ganadora, decisión, conclusión, elección, resultado, mejor respuesta",
    "Portuguese": "veredito, veredicto, vencedor, vencedora, decisão, conclusão, escolha, melhor resposta",
    "Italian": "verdetto, vincitore, decisione, conclusione, scelta, giudizio, risultato, risposta migliore",
    "Dutch": "oordeel, winnaar, beslissing, conclusie, keuze, beste antwoord",
    "Polish": "werdykt, zwycięzca, decyzja, wniosek, wybór, lepsza odpowiedź",
    "Turkish": "karar, kazanan, sonuç",
    "Russian": "вердикт, победитель, решение, вывод, итог, выбор, лучший ответ",
    "Ukrainian": "вердикт, переможець, рішення, висновок, підсумок, вибір, краща відповідь",
    "Chinese": "结论, 結論, 判断, 判斷, 判定, 裁决, 裁決, 判决, 胜者, 勝者, 获胜者, 獲勝者, 赢家, 结果, 結果, 选择",
    "Japanese": "結論, 判定, 勝者, 結果, 選択, 評決, より良い回答",
    "Korean": "결론, 판정, 승자, 결과, 선택, 평결, 더 나은 답변",
    "Hindi": "निष्कर्ष, निर्णय, विजेता, परिणाम",
    "Arabic": "الحكم, الفائز, النتيجة, القرار, الخلاصة",
}
NOUN = (
    "antwort|réponse|respuesta|resposta|risposta|antwoord|odpowiedź|ответ|відповідь|yanıt|回答|答案|答え|답변|응답|助手"
)
"""The pattern of what answers are called."""
_FINAL = (
    "endgültiges?|endgültige|abschließendes?|finales?|final|finale|definitivo|definitiva|eindelijke?|ostateczny|"
    "ostateczna|nihai|окончательный|окончательное|итоговый|остаточний|остаточне|фінальний|фінальне|最终的?|最終的?な?|"
    "最后的?|최종|अंतिम|النهائي|النهائية"
)
_ONE = "|".join(
    sorted({re.escape(one) for said in _LABELS.values() for one in said.split(", ")}, key=len, reverse=True)
)
LABEL = rf"(?:(?:{_FINAL}) ?)?(?:{_ONE})(?: ?(?:{_FINAL}))?(?=[*_]* ?[:：=→—–])"
"""The pattern of such a word, with what stands for final before or after it; a colon or its like follows."""
