"""The command line of g2t: parse, call one library function, render."""
