"""How good a tokenizer is for Belarusian, Russian, Ukrainian, English and code, beside other tokenizers.

`report` is the command; `vocabularies` opens tokenizers of every kind, `measure` counts, `sizes` trains at several
sizes, and `tables`, `picture` and `page` show the figures.
"""
