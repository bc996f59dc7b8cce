"""The atelier: a miniature world whose every picture is known, and the small model that learned it."""

from ctrl.atelier.language import Vocabulary, vocabulary

__all__ = ["Vocabulary", "vocabulary"]
