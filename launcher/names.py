"""Readable names for runs: ``calm-otter-3f9a``, or ``ddp-3f9a`` for a job with a name."""

from __future__ import annotations

from random import Random

_FIRST = (
    "amber bold brave brisk calm clear clever cosy crisp curious daring eager early fair fleet "
    "gentle glad golden grand happy hardy honest jolly keen kind lively loyal lucky mellow merry "
    "mild neat nimble noble patient placid plucky polite proud quick quiet rapid ready rosy royal "
    "serene sharp shy silent silver smart snug solid spry steady sturdy sunny swift tidy true "
    "vivid warm wise witty"
).split()
_SECOND = (
    "badger beaver bison bittern bream buzzard carp cod crane curlew deer dove duck eagle eel "
    "egret elk falcon finch fox gannet goose grouse gull hare hawk hen heron hornet ibex ibis jay "
    "kite lark linnet lion lynx magpie marten merlin mole moose newt otter owl perch pike plover "
    "puffin quail raven robin salmon seal shrew snipe sparrow stoat stork swan swift tench tern "
    "thrush trout viper vole walrus weasel whale wren yak"
).split()


def generate(random: Random, prefix: str | None = None) -> str:
    """A name that no other run has, as good as surely. It is the run's id and its folder, too."""
    word = prefix or f"{random.choice(_FIRST)}-{random.choice(_SECOND)}"
    return f"{word}-{random.randrange(16**4):04x}"
