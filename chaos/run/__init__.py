"""Run: carries out a plan, writes its history, and has it judged and reported. May import report and below."""
