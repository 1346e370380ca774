"""The page that a run of bench leaves: plots as SVG in one file of HTML."""
