"""The prediction of a trained cell for images of yours.

`people` finds who is in an image and stores them as shards would; `images` predicts them, `records` writes the numbers,
and `panel` draws them.
"""
