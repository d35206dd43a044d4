"""The prediction of a trained cell for an image of yours.

`people` finds who is in the image and stores them as shards would; `panel` gives the prediction in numbers and draws
it.
"""
