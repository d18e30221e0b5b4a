"""The page on which a study's raters listen and answer, and the one on which its results are read."""
