"""Former home of what is in `quotaflow._streaming.piece`."""

from quotaflow._streaming.piece import Piece, _restore

__all__ = ["Piece", "_restore"]
