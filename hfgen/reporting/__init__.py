"""What every page is made of: numbers in words, charts, rows of pictures, the frame."""
