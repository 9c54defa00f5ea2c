"""What the attentions are good for: small generated tasks, the same for all, with seeds and intervals.

`command` is the entry; `suite` runs the tasks, each in a file of its own; `learning` is the training loop they share;
`estimate`, `table` and `picture` make figures, a page and a picture of what was measured.
"""
