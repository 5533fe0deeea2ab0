from .paper import Paper
PAPER = Paper("arora2019","","",())
