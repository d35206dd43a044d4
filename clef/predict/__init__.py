"""A trained cell's prediction for an image of one's own.

`subjects` finds who is in it, `rendered` stores them as shards would, `told` puts the prediction in numbers, `panel` in
a picture.
"""
