"""Run: carries out a plan and writes its history, then has it judged and reported. May import report and below."""
