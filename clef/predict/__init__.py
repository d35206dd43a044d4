"""The prediction of a trained cell for an image of one's own.

`people` finds who is in the image and stores them as shards would; `panel` gives the prediction in numbers and draws
it.
"""
